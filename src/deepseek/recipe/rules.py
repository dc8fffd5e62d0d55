"""What the keys of a recipe must be to one another: the one list of cross-field checks.

Each rule is a function from a recipe whose keys are right by themselves to the problems it finds. A rule goes by values, never by whether
a key was written: a resolved recipe, in which every default stands, must pass like the one it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deepseek.artifacts import export_name
from deepseek.errors import Problem
from deepseek.recipe.sections import RecipeSections, SplitSection
from deepseek.recipe.values import AUTO, Auto
from deepseek.registry import family

Rule = Callable[[RecipeSections], Iterable[Problem]]


def _split_shares(recipe: RecipeSections) -> Iterator[Problem]:
    split = recipe.data.split
    shares = {"train": split.train, "validation": split.validation, "test": split.test}
    total = sum(shares.values())
    whole = all(float(share).is_integer() for share in shares.values()) and 1 <= total <= 100
    if not (whole or any(abs(total - wanted) <= 1e-6 * wanted for wanted in (1, 100))):
        text = ", ".join(f"{name} {share:g}{'' if name in split.model_fields_set else ' (default)'}" for name, share in shares.items())
        yield Problem("data.split", f"the shares sum to {total:g} ({text}); they must sum to 1 or 100, or be whole proportions (7, 1, 2)")
    elif not split.train:
        yield Problem("data.split.train", "no row is left to train on; the share must be greater than 0")


def _split_ways(recipe: RecipeSections) -> Iterator[Problem]:
    split = recipe.data.split
    given = [name for name in ("group", "time", "column") if getattr(split, name) is not None]
    for name in given[1:]:
        yield Problem(f"data.split.{name}", f"cannot be given together with {given[0]!r}; a split goes by one of them")
    if split.stratify and given:
        yield Problem("data.split.stratify", f"cannot be asked for in a split by {given[0]!r}")
    if split.folds is None:
        if split.fold:
            yield Problem("data.split.fold", "is given without 'folds'")
        return
    for name in set(given) & {"time", "column"}:
        yield Problem("data.split.folds", f"cannot be given together with {name!r}; folds go with 'stratify' or 'group' only")
    least = 3 if split.validation else 2
    if split.folds < least:
        yield Problem(
            "data.split.folds", f"must be at least {least}, with one for validation (set 'validation' to 0 for none); given: {split.folds}"
        )
    if split.fold >= split.folds:
        yield Problem("data.split.fold", f"must be less than folds, {split.folds}; folds are counted from 0; given: {split.fold}")


def _test_source(recipe: RecipeSections) -> Iterator[Problem]:
    split = recipe.data.split
    if recipe.data.test is not None and split.test not in (0, SplitSection().test):
        yield Problem("data.split.test", "must be 0 where 'data.test' names a source of test rows")


def _columns(recipe: RecipeSections) -> Iterator[Problem]:
    data = recipe.data
    targets, dropped = set(data.targets), set(data.drop)
    if len(targets) < len(data.targets):
        yield Problem("data.target", f"names a column twice: {', '.join(data.targets)}")
    for name in sorted(targets & dropped):
        yield Problem("data.drop", f"drops the target {name!r}")
    if data.weight in targets | dropped:
        yield Problem("data.weight", f"the column {data.weight!r} is {'the target' if data.weight in targets else 'dropped'}")
    for key in ("group", "time", "column"):
        name = getattr(data.split, key)
        if name is not None and name in targets | {data.weight}:
            yield Problem(f"data.split.{key}", f"the column {name!r} is the {'target' if name in targets else 'weight'}")
    for section, names in (("fields", set(data.fields)), ("transforms", set(data.transforms))):
        for name in sorted(names & dropped):
            yield Problem(f"data.{section}.{name}", "this column is dropped by 'data.drop'")
    for name in sorted(set(data.transforms) & targets):
        yield Problem(f"data.transforms.{name}", "this column is the target; targets are prepared by the task")


def _task_target(recipe: RecipeSections) -> Iterator[Problem]:
    if recipe.task == AUTO:
        return
    name, needed = recipe.task["type"], getattr(family("task").get(recipe.task["type"]), "needs_target", True)
    if needed and not recipe.data.targets:
        yield Problem("data.target", f"the task {name!r} needs the column to predict")
    if not needed and recipe.data.targets:
        yield Problem("data.target", f"the task {name!r} predicts what stands in its input; leave the key out")


def _written(recipe: RecipeSections) -> Iterator[Problem]:
    if recipe.export and recipe.task != AUTO and recipe.task["type"] == "language_modelling":
        yield Problem("export", "a language model is not exported: it writes with what it has kept; leave the key out")
    names = [export_name(spec) for spec in recipe.export]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(
            "export", f"two of them would stand in export/{name}; keep one, and make the other with: deepseek export RUN --output"
        )


def _micro_batches(recipe: RecipeSections) -> Iterator[Problem]:
    train = recipe.train
    if train.batch_size == AUTO:
        return
    if train.accumulate > train.batch_size:
        yield Problem(
            "train.accumulate", f"cuts a batch of {train.batch_size} rows into {train.accumulate} parts; give at most as many as rows"
        )
    elif train.batch_size % train.accumulate:
        yield Problem("train.accumulate", f"must divide the batch size {train.batch_size} without remainder; given: {train.accumulate}")


def _compiled_step(recipe: RecipeSections) -> Iterator[Problem]:
    """What a step that is compiled as a whole has no form for; what depends on the data (texts of any length) is refused by the trainer."""
    train = recipe.train
    if train.compile != "step":
        return
    wrong = {
        "accumulate": train.accumulate > 1,
        "optimizer": train.optimizer != AUTO and train.optimizer["type"] not in {"adam", "adamw"},
        "precision": train.precision not in (AUTO, "fp32"),
        "clip_value": train.clip_value is not None,
        "clip": train.clip is not None,
        "layer_rates": train.layer_rates is not None,
        "l1": train.l1 > 0,
        "l2": train.l2 > 0,
        "max_norm": train.max_norm is not None,
        "devices": _devices_of(recipe) not in (1, AUTO),
        "on_nonfinite": train.on_nonfinite == "skip",
    }
    why = "does not go with compile: step, which takes one device, fp32 and plain Adam or AdamW; say compile: model or off"
    yield from (Problem(f"train.{key}", why) for key, given in wrong.items() if given)


def _devices_of(recipe: RecipeSections) -> int | Auto:
    return recipe.train.devices if recipe.cluster is None else recipe.cluster.workers


def _several_devices(recipe: RecipeSections) -> Iterator[Problem]:
    train, devices = recipe.train, _devices_of(recipe)
    plain = train.communication == AUTO or train.communication["type"] == "all_reduce"
    if devices == 1 and not plain:
        yield Problem("train.communication", "has nothing to do on one device; set 'train.devices', or leave the key out")
    if devices == 1 and train.shares == "auto":
        yield Problem("train.shares", "has nothing to do on one device; set 'train.devices', or leave the key out")
    if not isinstance(train.shares, str) and devices != AUTO and len(train.shares) != devices:
        yield Problem("train.shares", f"must have a number for each of {devices} devices; given: {len(train.shares)}")


def _exchanges(recipe: RecipeSections) -> Iterator[Problem]:
    train, devices = recipe.train, _devices_of(recipe)
    if train.communication == AUTO:
        return
    spec: Mapping[str, Any] = train.communication
    if spec["type"] == "parameter_server" and devices != AUTO and spec["server"] >= devices > 1:
        yield Problem("train.communication.server", f"must be less than devices, {devices}, counted from 0; given: {spec['server']}")
    group = spec["group"] if spec["type"] == "hierarchical" else None
    if group is not None and devices != AUTO and devices > 1 and (devices % group or group == devices):
        yield Problem("train.communication.group", f"must divide {devices} devices into two groups or more; given: {group}")
    if spec["type"] == "hierarchical" and group is None and recipe.cluster is not None:
        yield Problem("train.communication.group", "is missing; say how many workers a machine of the cluster has")
    if spec["type"] == "qsgd" and spec["norm"] == "l2" and spec["error_feedback"]:
        bits, most = spec["bits"], 4 * (2 ** (spec["bits"] - 1) - 1) ** 2  # in a row of so many like values each is half a level
        if spec["bucket"] >= most:
            why = f"l2 with error_feedback may round a whole row away for ever; take bucket: less than {most} for {bits} bits, or norm: max"
            yield Problem("train.communication.norm", why)
    if spec.get("error_feedback") or spec["type"] == "power_sgd":
        kept = "power_sgd, which keeps factors" if spec["type"] == "power_sgd" else "error_feedback, which keeps gradients"
        why = f"does not go with train.communication: {kept} from step to step"
        if train.precision == "fp16":
            yield Problem("train.precision", f"{why}: the loss scale changes; take bf16 or fp32")
        if recipe.fine_tune is not None and recipe.fine_tune.unfreeze_every is not None:
            yield Problem("fine_tune.unfreeze_every", f"{why}: what is trained changes; leave one of them out")


def _strategies(recipe: RecipeSections) -> Iterator[Problem]:
    train = recipe.train
    name = AUTO if train.strategy == AUTO else train.strategy["type"]
    if _devices_of(recipe) in (1, AUTO):
        return  # one device has the whole model, and of torchrun's processes nothing is known here
    plain = train.communication == AUTO or train.communication["type"] == "all_reduce"
    if name in ("fsdp", "tensor", "pipeline", "horovod") and not plain:
        why = f"does not go with strategy: {name}, which sums gradients by itself; take strategy: ddp, or leave this out"
        yield Problem("train.communication", why)
    if name not in ("fsdp", "tensor", "pipeline"):
        return
    if train.shares != "equal" and (name != "fsdp" or train.shares == "auto"):
        allowed = "equal shares, or proportions" if name == "fsdp" else "equal shares"
        yield Problem("train.shares", f"{train.shares!r} does not go with strategy: {name}; take {allowed}, or strategy: ddp")
    for key in ("clip", "layer_rates"):
        if getattr(train, key) is not None:
            yield Problem(f"train.{key}", f"needs whole gradients, and with strategy: {name} a device has some; take strategy: ddp")
    formats = ("fp32", "bf16") if name == "fsdp" else ("fp32",)
    wrong = {
        "train.precision": train.precision not in (AUTO, *formats),
        "train.compile": train.compile not in (AUTO, "off"),
        "train.channels_last": train.channels_last is True,
        "train.activation_checkpointing": train.activation_checkpointing not in (AUTO, "off"),
        "train.accumulate": train.accumulate > 1 and name == "pipeline",
        "train.max_norm": train.max_norm is not None and name == "tensor",
        "fine_tune": recipe.fine_tune is not None,
    }
    why = (
        f"does not go with strategy: {name}, where a device has a part of the model (precision {' or '.join(formats)}); take strategy: ddp"
    )
    yield from (Problem(key, why) for key, given in wrong.items() if given)


def _clipping(recipe: RecipeSections) -> Iterator[Problem]:
    train = recipe.train
    if train.clip is None:
        return
    if not train.clip:
        yield Problem("train.clip", "is an empty list; name a clipping, or leave the key out")
    for key in ("norm", "value"):
        limit = getattr(train, f"clip_{key}")
        if limit not in (AUTO, None):
            how = f"put {{type: {key}, max_{key}: {limit:g}}} into the list of 'clip', and leave this out"
            yield Problem(f"train.clip_{key}", f"cannot be given together with 'clip'; {how}")


def _saved_memory(recipe: RecipeSections) -> Iterator[Problem]:
    train = recipe.train
    if train.activation_checkpointing != "off" and train.compile not in (AUTO, "off"):
        why = f"does not go with compile: {train.compile}, whose compiler decides itself what it keeps; take one of them"
        yield Problem("train.activation_checkpointing", why)
    if train.cuda_graphs and train.compile != "step":
        yield Problem("train.cuda_graphs", "needs compile: step")


def _ema(recipe: RecipeSections) -> Iterator[Problem]:
    decay = recipe.train.ema
    if isinstance(decay, float) and not 0 < decay < 1:
        yield Problem("train.ema", f"must be between 0 and 1, or null for none; given: {decay:g}")


def _validation(recipe: RecipeSections) -> Iterator[Problem]:
    train, split = recipe.train, recipe.data.split
    if train.validate_every_epochs is not None and train.validate_every_steps is not None:
        yield Problem("train.validate_every_steps", "cannot be given together with 'validate_every_epochs'")
    stops = train.early_stopping not in (AUTO, False)
    if stops and split.column is None and split.validation == 0:
        yield Problem("train.early_stopping", "needs validation rows, but 'data.split.validation' is 0")


def _doubled_callbacks(recipe: RecipeSections) -> Iterator[Problem]:
    train = recipe.train
    said = {"early_stopping": train.early_stopping not in (AUTO, False), "time_limit": train.time_limit is not None}
    said |= dict.fromkeys(train.trackers, True)
    for index, callback in enumerate(train.callbacks):
        if said.get(callback["type"]):
            key = "trackers" if callback["type"] in train.trackers else callback["type"]
            yield Problem(f"train.callbacks.{index}", f"{callback['type']!r} is asked for a second time; 'train.{key}' is given already")


def _compression(recipe: RecipeSections) -> Iterator[Problem]:
    if recipe.compress is None:
        return
    int8 = recipe.compress.int8
    if int8 is None:
        yield Problem("compress", "says nothing that could be done; give it 'quantize: int8', or leave the section out")
    elif int8.method == "dynamic" and int8.backend == "openvino":
        yield Problem("compress.quantize.method", "OpenVINO has no dynamic INT8; take 'static', or the backend 'onnx'")


def _closed_loop(recipe: RecipeSections) -> Iterator[Problem]:
    monitor = recipe.monitor
    if monitor is None or monitor.on_alarm is None or monitor.on_alarm.action == "none":
        return
    then = monitor.on_alarm
    if monitor.keep_inputs != "values":
        why = "must be values, as monitor.on_alarm makes a new model of the rows that were asked; or say monitor.on_alarm.action: none"
        yield Problem("monitor.keep_inputs", f"{why}; given: {monitor.keep_inputs}")
    if then.recent.min_rows > then.recent.max_rows:
        yield Problem(
            "monitor.on_alarm.recent.min_rows", f"must be at most recent.max_rows, {then.recent.max_rows}; given: {then.recent.min_rows}"
        )
    if "drift" in then.alarms and not monitor.drift:
        yield Problem("monitor.on_alarm.alarms", "names drift, but monitor.drift is false: no such alarm is ever raised")
    if then.canary.outcomes > then.canary.rows:
        yield Problem("monitor.on_alarm.canary.outcomes", f"must be at most canary.rows, {then.canary.rows}; given: {then.canary.outcomes}")


def _live_stream(recipe: RecipeSections) -> Iterator[Problem]:
    learn = recipe.learn
    if learn is not None and learn.live_section is not None and learn.time is not None:
        yield Problem("learn.time", "cannot be given together with 'live': messages are learned in the order in which they come")


def _fine_tuning(recipe: RecipeSections) -> Iterator[Problem]:
    section = recipe.fine_tune
    if section is None:
        return
    if not _names_checkpoint(recipe.model):
        yield Problem("fine_tune", "needs a model that begins with pre-trained weights, such as {type: text_pretrained, pretrained: …}")
    if section.unfreeze_every is not None and section.freeze == "none":
        yield Problem("fine_tune.unfreeze_every", "has nothing to unfreeze; say 'freeze: all', or {all_but_last: n}")
    if section.unfreeze_every is not None and recipe.train.compile == "step":
        yield Problem("fine_tune.unfreeze_every", "does not go with train.compile: step; take model or off")
    if section.adapters is not None and section.freeze != "none":
        yield Problem("fine_tune.freeze", "cannot be given together with 'adapters', which freeze all pre-trained weights")


def _names_checkpoint(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("pretrained")) or any(map(_names_checkpoint, value.values()))
    return isinstance(value, list) and any(map(_names_checkpoint, value))


def _self_training(recipe: RecipeSections) -> Iterator[Problem]:
    section, split = recipe.self_training, recipe.data.split
    if section is None:
        return
    if recipe.tune is not None:
        yield Problem("self_training", "cannot be given together with 'tune': search first, with self_training: null; then train in rounds")
    if recipe.task != AUTO and recipe.task["type"] in {"multilabel", "regression"}:
        yield Problem("self_training", f"needs a task with one class a row, binary or multiclass; given: {recipe.task['type']}")
    if split.column is None and split.validation == 0:
        yield Problem("self_training", "needs validation rows to choose a round by, but 'data.split.validation' is 0")
    if section.choose == "top" and isinstance(section.threshold, dict):
        yield Problem("self_training.threshold", "has no use with 'choose: top', which takes the surest rows whatever their probability")


def _forecasts(recipe: RecipeSections) -> bool:
    return recipe.task != AUTO and recipe.task["type"] == "forecasting"


def _forecasting(recipe: RecipeSections) -> Iterator[Problem]:
    data, split = recipe.data, recipe.data.split
    if not _forecasts(recipe):
        given = [name for name in ("time", "series", "known", "static", "frequency", "season") if getattr(data, name)]
        for name in given:
            yield Problem(f"data.{name}", "is for forecasts; say task: {type: forecasting, horizon: STEPS}")
        for name in ("train_from", "validation_from", "test_from", "until"):
            if getattr(split, name) is not None:
                yield Problem(f"data.split.{name}", "is for forecasts; elsewhere data.split.time takes shares")
        return
    if data.time is None:
        yield Problem("data.time", "is missing: a forecast needs the column that says when each row is")
    unusable = {
        "data.test": data.test is not None,
        "data.weight": data.weight is not None,
        "data.clean": bool(data.clean),
        "data.suspects": data.suspects is not None,
        "data.spellings": bool(data.spellings),
        "self_training": recipe.self_training is not None,
        "monitor": recipe.monitor is not None,
        "learn": recipe.learn is not None,
        "compress": recipe.compress is not None,
        "data.augment": bool(data.augment) and data.augment != AUTO,
    }
    yield from (Problem(path, "does not go with forecasts; leave it out") for path, given in unusable.items() if given)
    for name in ("group", "time", "column", "folds", "stratify"):
        if getattr(split, name):
            yield Problem(f"data.split.{name}", "does not go with forecasts, which are split by data.time")
    yield from _forecast_columns(recipe)


def _forecast_columns(recipe: RecipeSections) -> Iterator[Problem]:
    data = recipe.data
    targets, series, dropped = set(data.targets), set(data.series_columns), set(data.drop)
    for key, names in (("known", data.known), ("static", data.static)):
        for name in names:
            if name in targets:
                yield Problem(f"data.{key}", f"names the target {name!r}, whose future is what is asked for")
            if name in dropped:
                yield Problem(f"data.{key}", f"names {name!r}, which 'data.drop' drops")
    for name in sorted(set(data.known) & set(data.static)):
        yield Problem("data.static", f"names {name!r}, which stands under 'data.known' too")
    if data.static and not series:
        yield Problem("data.static", "needs data.series: in a single series what never changes says nothing")
    for taken in sorted(name for name in targets if name == data.time or name in series):
        yield Problem("data.target", f"the column {taken!r} is the time, or tells series apart")
    if data.time in series:
        yield Problem("data.series", f"names the time {data.time!r}")
    for key, given in (("time", [data.time]), ("series", data.series_columns)):
        for column in given:
            if column is not None and (column == "prediction" or column.startswith(("prediction_", "quantile_"))):
                yield Problem(f"data.{key}", f"names {column!r}, which answers have a column of; give the table's column another name")


RULES: tuple[Rule, ...] = (
    _split_shares,
    _split_ways,
    _test_source,
    _columns,
    _task_target,
    _written,
    _micro_batches,
    _compiled_step,
    _several_devices,
    _exchanges,
    _strategies,
    _clipping,
    _saved_memory,
    _ema,
    _validation,
    _doubled_callbacks,
    _compression,
    _closed_loop,
    _live_stream,
    _self_training,
    _fine_tuning,
    _forecasting,
)
"""Every cross-field check, in the order of the recipe's sections."""


def broken_rules(recipe: RecipeSections) -> list[Problem]:
    """Return what the keys of a recipe are to one another and must not be."""
    return [problem for rule in RULES for problem in rule(recipe)]
