"""Everything that says how a model is trained, in one frozen object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from deepseek.errors import InputError
from deepseek.training.fine_tuning import FineTune

Spec = str | Mapping[str, Any]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a model is trained.

    Attributes:
        epochs: Passes over the training rows, at least 1.
        max_steps: The most optimizer steps; counts before `epochs` where both would end the run.
        batch_size: Rows of the *global* batch of one optimizer step, over all ranks and micro-batches; or `auto`.
        accumulate: Micro-batches that the batch is computed in, at least 1; changes memory, not results.
        activation_checkpointing: Which repeated blocks of the network reckon activations again in the backward pass instead of keeping
            them: `off` for none, 1 for every one, 2 for every second one …; `auto` for every one where memory would not suffice without.
        learning_rate: The peak learning rate; the optimizer's own where not given.
        optimizer: An `optimizer` component.
        schedule: A `schedule` component.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: the fastest, measured on copies before the first step.
        channels_last: Whether images are laid out with channels last; `auto` measures.
        compile: `model` compiles the network, `step` the whole step with loss, gradients and optimizer.
        steps_per_call: With `compile: step`, the most steps that one call makes; `auto` takes 4, or 1 where a callback looks at every step.
        cuda_graphs: With `compile: step` on a CUDA device, whether calls are recorded and replayed as CUDA graphs.
        clip_norm: The largest joint norm of the gradients.
        clip_value: The largest absolute value of a gradient element.
        clip: `clipping` components in the order in which they act, in the place of `clip_norm` and `clip_value`.
        layer_rates: A `layer_rates` component: rates and weight decays by layer; none for the optimizer's own.
        ema: Decay of a running average of the weights, which is then validated and kept; in (0, 1).
        l1: Strength of an absolute penalty on decayed weights.
        l2: Strength of a quadratic penalty on decayed weights.
        max_norm: The largest norm of the weights into one output.
        early_stopping: Arguments of the `early_stopping` callback, `{patience: 5}`; none for no early stopping.
        monitor: The validation metric that stopping, keeping the best and tuning look at; the task's own where not given.
        validate_every: Validate after so many epochs or steps.
        validate_unit: What `validate_every` counts.
        checkpoint_every_s: Seconds between checkpoints; none for none by time.
        checkpoint_every: Steps between checkpoints; none for none by steps.
        keep: How many checkpoints are kept; each holds the best weights so far.
        time_limit_s: Seconds after which training stops in good order.
        devices: How many devices train together; the pipeline goes by it, a `Trainer` by its `ranks`.
        device: `auto`, `cpu`, or an accelerator by its torch name.
        strategy: A `strategy` component: how several ranks share out the model.
        communication: An `exchange` component: how several ranks sum their gradients; `auto` takes `all_reduce`.
        shares: How several ranks share a batch: `equal`, by their measured speed (`auto`), or in given proportions, `[3, 1]`.
        seed: From which order, dropout and augmentation are derived.
        deterministic: Forbid operations that are not bit-reproducible on accelerators.
        on_nonfinite: What to do about a NaN or infinite loss: `raise`, or `skip` the step (which waits for the device every step).
        loss_spikes: From how many deviations above what it was a training loss is named as having leapt; none for no such words.
        stall_s: Seconds without a step, a batch or a validation after which is said what training waits for; several ranks then stop, and
            say which one hangs. None for no such words.
        peak_tflops: What the device can do at most, in 10¹² operations a second, for the share of it that is used; known of some by name.
        restore_best: Put the best weights back at the end.
        log_every: The most steps between two looks at the running loss.
        fine_tune: How pre-trained encoders are trained; none to train them like everything else.
    """

    epochs: Count = 10
    max_steps: Count | None = None
    batch_size: Count | Literal["auto"] = 256
    accumulate: Count = 1
    activation_checkpointing: Count | Literal["off", "auto"] = "off"
    learning_rate: Positive | None = None
    optimizer: Spec = "adamw"
    schedule: Spec = "constant"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: Literal["off", "model", "step"] = "off"
    steps_per_call: Count | Literal["auto"] = "auto"
    cuda_graphs: bool = False
    clip_norm: Positive | None = None
    clip_value: Positive | None = None
    clip: list[Spec] | tuple[Spec, ...] | None = None
    layer_rates: Spec | None = None
    ema: Annotated[float, Gt(0), Lt(1)] | None = None
    l1: Annotated[float, Ge(0)] = 0.0
    l2: Annotated[float, Ge(0)] = 0.0
    max_norm: Positive | None = None
    early_stopping: Mapping[str, Any] | None = None
    monitor: str | None = None
    validate_every: Count = 1
    validate_unit: Literal["epochs", "steps"] = "epochs"
    checkpoint_every_s: Positive | None = 60.0
    checkpoint_every: Count | None = None
    keep: Count = 2
    time_limit_s: Positive | None = None
    devices: Count = 1
    device: str = "auto"
    strategy: Spec = "auto"
    communication: Spec = "auto"
    shares: Literal["auto", "equal"] | Sequence[int] = "equal"
    seed: Annotated[int, Ge(0)] = 0
    deterministic: bool = True
    on_nonfinite: Literal["raise", "skip"] = "raise"
    loss_spikes: Positive | None = 8.0
    stall_s: Positive | None = 600.0
    peak_tflops: Positive | None = None
    restore_best: bool = True
    log_every: Annotated[int, Ge(1), Le(1000)] = 50
    fine_tune: FineTune | None = None

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            value = getattr(self, field.name)
            if not any(_fits(value, option) for option in _options(hints[field.name])):
                wanted = " or ".join(_words(option) for option in _options(hints[field.name]))
                raise InputError(f"train.{field.name} is {value!r}", hint=f"allowed: {wanted}")
        for name in ("clip_norm", "clip_value"):
            if self.clip is not None and (limit := getattr(self, name)) is not None:
                spec = f"{{type: {name.removeprefix('clip_')}, max_{name.removeprefix('clip_')}: {limit:g}}}"
                raise InputError(f"train.clip and train.{name} are both given", hint=f"put {spec} into train.clip, and leave {name} out")
        if self.cuda_graphs and self.compile != "step":
            raise InputError(f"cuda_graphs needs compile: step, and compile is {self.compile}", hint="say compile: step, or leave it out")


def _options(hint: Any) -> tuple[Any, ...]:
    return (hint,) if get_origin(hint) in {None, Annotated, Literal, Mapping, Sequence} or not get_args(hint) else _members(hint)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if str(get_origin(hint)) in {"<class 'types.UnionType'>", "typing.Union"} else (hint,)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is Annotated:
        base, *limits = get_args(hint)
        return _fits(value, base) and all(_within(value, limit) for limit in limits)
    plain = get_origin(hint) or hint
    if plain is Sequence:
        return isinstance(value, list | tuple) and all(_fits(item, *get_args(hint)) for item in value)
    if isinstance(value, bool):
        return plain is bool
    return isinstance(value, (int, float) if plain is float else plain)


def _within(value: Any, limit: object) -> bool:
    match limit:
        case Ge(low):
            return bool(value >= low)
        case Gt(low):
            return bool(value > low)
        case Le(high):
            return bool(value <= high)
        case Lt(high):
            return bool(value < high)
    return True


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) is Annotated:
        base, *limits = get_args(hint)
        return " ".join([_words(base), *(str(limit) for limit in limits)])
    return "nothing" if hint is type(None) else getattr(get_origin(hint) or hint, "__name__", str(hint))
