"""The sections of a recipe as types: every key, its range and its default.

Keys that name a component hold a validated spec: a mapping of `type` and every argument, ready for `Registry.build`. `auto` stands until
the pipeline has decided; it then enters the decision with its reason (`Recipe.with_decisions`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field

from deepseek.recipe.fine_tuning import FineTuneSection
from deepseek.recipe.quantities import Duration, Flag, Integer, Number, Size
from deepseek.recipe.values import (
    AUTO,
    AlarmSpec,
    AugmentationSpec,
    Auto,
    CallbackSpec,
    CheckSpec,
    CleanerSpec,
    Count,
    DetectorSpec,
    ExporterSpec,
    KindName,
    ModelSpec,
    NotNegative,
    OptimizerSpec,
    OptionalModelSpec,
    Positive,
    Probability,
    PrunerSpec,
    ScheduleSpec,
    SearchSpec,
    Seed,
    Share,
    SourceSpec,
    TaskSpec,
    Text,
    TransformSpec,
)


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, and nothing changes once it is checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, protected_namespaces=())


class SplitSection(Section):
    """Which rows train, which validate and which test; settled before anything is learned from any row."""

    train: Share = 0.7
    """Share of rows for training; the three shares sum to 1, or to 100, or are whole proportions (7, 1, 2)."""
    validation: Share = 0.15
    """Share of rows for choosing: early stopping, the best weights."""
    test: Share = 0.15
    """Share of rows for the final number, looked at once."""
    stratify: Flag | None = None
    """Whether each split gets every class (or range of a number) in proportion; decided by the target where not given."""
    group: Text | None = None
    """A column; rows that share its value stay in one split."""
    time: Text | None = None
    """A column of times; the test split is the latest rows, training the earliest."""
    column: Text | None = None
    """A column that says `train`, `validation` or `test` itself."""
    folds: Annotated[Integer, Ge(2)] | None = None
    """Number of folds for cross-validation, in the place of the shares."""
    fold: Annotated[Integer, Ge(0)] = 0
    """Which of the folds is the test split, counted from 0."""
    seed: Seed | None = None
    """Seed of the split; the recipe's where not given."""
    on_leak: Literal["warn", "fail", "drop", "ignore"] = "warn"
    """What training rows come to whose twin is a validation or test row: a warning, an error, being left out; `ignore` looks for none."""

    @property
    def shares(self) -> tuple[float, float, float]:
        """Training, validation and test, as fractions that sum to 1."""
        total = self.train + self.validation + self.test
        return self.train / total, self.validation / total, self.test / total


class SuspectsSection(Section):
    """What becomes of training rows whose label a file says is probably wrong."""

    file: Text
    """What `deepseek suspects` wrote, or a file like it; relative paths start at the recipe's folder."""
    action: Literal["drop", "relabel", "weigh"] = "drop"
    """Whether they are left out, get the suggested label, or weigh less; a column `action` of the file says otherwise of single rows."""
    weight: Annotated[Number, Ge(0), Lt(1)] = 0.2
    """What they weigh of what they did."""
    key: Text | None = None
    """A column whose values name the rows in the file; their numbers do where not given."""


class DataSection(Section):
    """Where rows come from, what they must look like, and how they become arrays."""

    source: SourceSpec
    """Where rows come from; relative paths start at the recipe's folder."""
    test: SourceSpec | None = None
    """A source of test rows of its own; the split then shares out `source` between training and validation."""
    target: Text | Annotated[list[Text], Field(min_length=1)] | None = None
    """The column to predict, or several."""
    fields: dict[str, KindName] = {}
    """The kinds of columns, where the inferred ones are wrong."""
    drop: list[Text] = []
    """Columns to leave out."""
    spellings: dict[str, dict[str, str]] = {}
    """Other spellings of the same value, by column: what stands there, and what is meant."""
    weight: Text | None = None
    """A column of row weights for the loss and the metrics."""
    checks: list[CheckSpec] = []
    """Rules that say which rows are bad, and what becomes of them."""
    clean: list[CleanerSpec] = []
    """Repairs, fitted on training rows, in order."""
    split: SplitSection = SplitSection()
    """Which rows train, validate and test."""
    suspects: SuspectsSection | None = None
    """Labels among the training rows that are probably wrong, and what becomes of them."""
    transforms: dict[str, TransformSpec] = {}
    """How columns become arrays: by kind, or by a column's name, which goes before."""
    augment: Auto | list[AugmentationSpec] | None = AUTO
    """Random changes of training batches; null for none."""
    max_rejected: Annotated[Number, Ge(0), Le(1)] = 0.5
    """Largest share of rows that checks may set aside before the run stops."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict, as a tuple however they were given."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target or ())


class EarlyStoppingSection(Section):
    """When to stop because validation gets no better."""

    patience: Count = 10
    """Validations in a row without improvement."""
    min_delta: NotNegative = 0.0
    """Smallest change of the monitored metric that counts as an improvement."""


class CheckpointSection(Section):
    """How often the state is saved, so that a run can be resumed."""

    every_s: Duration = 60.0
    """Seconds between two checkpoints."""
    keep: Count = 2
    """How many of the latest checkpoints stay on disk."""


class TrainSection(Section):
    """How the network is trained."""

    epochs: Count | Auto = AUTO
    """Passes over the training rows."""
    max_steps: Count | None = None
    """Optimizer steps after which training ends, whatever `epochs` says."""
    batch_size: Count | Auto = AUTO
    """Rows in one optimizer step, over all ranks and micro-batches."""
    accumulate: Count = 1
    """Micro-batches that one step's batch is cut into, to save memory; the result is the same."""
    learning_rate: Positive | Auto = AUTO
    """The schedule's highest rate."""
    optimizer: OptimizerSpec = AUTO
    """How gradients become steps."""
    schedule: ScheduleSpec = AUTO
    """How the learning rate changes over the run."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = AUTO
    """Type of the arithmetic inside the network; `auto` measures."""
    channels_last: Flag | Auto = AUTO
    """Whether image tensors are laid out with channels last; `auto` measures."""
    compile: Literal["auto", "off", "model", "step"] = AUTO
    """What is compiled: nothing, the model, or the whole step; `auto` is `off`, as short runs do not earn back the time it takes."""
    clip_norm: Positive | Auto | None = AUTO
    """Largest global norm of the gradient; null for no clipping."""
    clip_value: Positive | None = None
    """Largest absolute value of a gradient's element."""
    ema: Number | Auto | None = AUTO
    """Decay of the moving average of the weights, between 0 and 1; null for none."""
    l1: NotNegative = 0.0
    """Factor of the sum of absolute weights in the loss."""
    l2: NotNegative = 0.0
    """Factor of half the sum of squared weights in the loss."""
    max_norm: Positive | None = None
    """Largest norm of the weights into one unit."""
    early_stopping: Flag | EarlyStoppingSection | Auto = AUTO
    """Whether training ends when validation gets no better, and with what patience."""
    monitor: Text = AUTO
    """The metric that stopping, saving and tuning look at; `auto` takes the task's."""
    validate_every_epochs: Count | None = None
    """Epochs between two validations; 1 where neither this nor the next is given."""
    validate_every_steps: Count | None = None
    """Steps between two validations."""
    checkpoint: CheckpointSection = CheckpointSection()
    """How often the state is saved."""
    callbacks: list[CallbackSpec] = []
    """What else happens beside training."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = []
    """Where metrics go besides `events.jsonl`."""
    devices: Count | Auto = 1
    """Accelerators or processes to train on."""
    device: Text = AUTO
    """`auto`, `cpu`, or an accelerator by its torch name, such as `cuda`."""
    on_nonfinite: Literal["raise", "skip"] = "raise"
    """What a NaN or infinite loss does: end the run, or leave out the step."""
    time_limit: Duration | None = None
    """Time after which training ends with the best weights so far."""
    deterministic: Flag = True
    """Whether the same seed gives the same numbers bit for bit."""
    seed: Seed | None = None
    """Seed of weights, order and dropout; the recipe's where not given."""


class TuneSection(Section):
    """Which keys of the recipe are searched for better values, and how."""

    trials: Count = 20
    """How many trials there are in all; the first is the recipe as it is."""
    over: dict[Text, Any] = {}
    """By a key's path its range `[low, high]`, a list of choices, or a mapping (`low`, `high`, `log`, `step`; or `choices`); a space for
    the model at hand where not given."""
    search: SearchSpec = "tpe"
    """How the next point is proposed."""
    pruner: PrunerSpec = {"type": "median", "warmup_steps": 4}
    """When a trial that promises too little is given up."""
    metric: Text | None = None
    """The validation metric that trials are compared by; the monitored one where not given."""
    storage: Text | None = None
    """Where the study is kept: a file or the URL of a database; `study.db` in the search's folder where not given."""
    workers: Count = 1
    """Processes that work on the study at the same time."""
    time_limit: Duration | None = None
    """Time after which no further trial begins."""
    seed: Seed | None = None
    """Seed of the search; the recipe's where not given."""
    vary_seed: Flag = False
    """Whether every trial trains with a seed of its own, instead of the recipe's."""
    keep: Literal["nothing", "metrics", "everything"] = "metrics"
    """What stays of the trials that are not the best: nothing, all but weights, or everything."""


class BatchingSection(Section):
    """How requests that come at the same time are answered together."""

    max_size: Count = 64
    """Most rows that go through the network at once."""
    max_wait_ms: NotNegative = 0.0
    """How long an idle model waits for more rows; a busy one gathers them without waiting."""
    max_queue: Count = 4096
    """Most rows that wait for the model; what comes beyond is refused with 429."""


class GuardSection(Section):
    """When a challenger is taken out by itself."""

    failures: Annotated[Number, Gt(0), Lt(1)] | None = 0.05
    """The share of its requests that a challenger may fail: surely more ends the experiment."""
    latency: Annotated[Number, Gt(1)] | None = 2.0
    """How many times the champion's p99 its own may be."""
    metric: NotNegative | None = 0.0
    """By how much its metric may be worse, in the metric's unit."""


class ExperimentSection(Section):
    """Several models behind one address."""

    arms: Annotated[dict[str, Text], Field(min_length=1, max_length=8)]
    """The other models by name: runs or bundles."""
    share: Annotated[Number, Gt(0), Le(1)] = 0.1
    """The share of keys that each challenger gets."""
    role: Literal["challenger", "shadow"] = "challenger"
    """Whether they answer for their share, or are asked beside the champion and never answer."""
    key_field: Text | None = None
    """The field of a row that says whom it is about; the header `X-Experiment-Key` goes before it."""
    metric: Literal["auto", "accuracy", "error_rate", "log_loss", "mae", "mse", "reward"] = AUTO
    """What is compared as outcomes come."""
    alpha: Annotated[Number, Gt(0), Lt(1)] = 0.05
    """Largest probability that a difference is ever told where there is none, however often one looks."""
    min_outcomes: Count = 100
    """Outcomes that each arm must have before anything is said."""
    planned_outcomes: Count = 5_000
    """Outcomes after which the intervals are tightest; they hold at any other number too."""
    min_effect: Positive | None = None
    """The smallest difference that matters, for what is still needed to see it; 0.02 of a share, a tenth of the spread of anything else."""
    challenger_timeout: Duration = 1.0
    """How long a challenger may take for an answer before the champion is asked."""
    guard: GuardSection | None = None
    """When a challenger is taken out by itself; not at all where not given."""


class ServeSection(Section):
    """How a model is served over HTTP."""

    host: Text = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for every one of the machine's."""
    port: Annotated[Integer, Ge(0), Le(65_535)] = 8000
    """The port; 0 for any free one."""
    workers: Count = 1
    """Processes that share the port; one that dies is replaced."""
    runners: Annotated[Integer, Ge(0)] = 0
    """Processes of each worker that run the network, so that one that dies costs no request; 0 runs it in the worker itself."""
    backend: Text = AUTO
    """What runs the network."""
    keys: Text | None = None
    """A file with the keys that clients show, one a line; `admin:KEY` for one that may also load models."""
    max_body: Size = 10_000_000
    """Largest body of a request, in bytes or with a unit."""
    max_rows: Count = 10_000
    """Most rows of one request."""
    timeout: Duration = 30.0
    """How long a request waits for its answer at most."""
    read_timeout: Duration = 10.0
    """How long a client may take to send its headers, and then its body."""
    drain: Duration = 30.0
    """How long a server that is told to stop goes on with what it has accepted."""
    state: Text | None = None
    """The server's own folder, where it keeps what is to outlive it; one beside the run where it watches, else a temporary one."""
    watch: Flag = False
    """Whether models are watched whose recipe has no section `monitor` too."""
    journal_size: Size = 1_000_000_000
    """Most bytes of answers and outcomes that wait on disk for the watch; beyond, answers are not kept and outcomes are refused."""
    batching: BatchingSection = BatchingSection()
    """How requests that come at the same time are answered together."""
    experiment: ExperimentSection | None = None
    """Another model beside this one, begun with the server."""


class AlarmSection(Section):
    """When a drop of a metric raises an alarm."""

    metric: Text = AUTO
    """The metric that is tested as labels come: `accuracy`, `auc`, `log_loss`, `mae`, `mse`; `loss`, or `auto` for the task's first."""
    drop: Positive = 0.02
    """The smallest drop that matters: of accuracy and AUC in their unit (0.02 is two points), of a loss as a share of what it was."""
    alpha: Annotated[Number, Gt(0), Lt(1)] = 0.05
    """Largest probability of a false alarm within `horizon` labels."""
    horizon: Count = 10_000
    """Labels that belong to one `alpha`: as many as come in a month, say."""


class WindowSection(Section):
    """How many requests are compared with the reference at a time."""

    rows: Count = 1_000
    """Rows in a window."""
    time: Duration | None = None
    """Time after which a window ends whatever it holds."""


class FreshRowsSection(Section):
    """Which labelled rows of production a new model is made of and judged on."""

    max_rows: Count = 20_000
    """Most rows, the newest."""
    min_rows: Count = 500
    """Fewest; with fewer the loop waits for more."""
    since: Literal["change", "all"] = "change"
    """Whether rows from before the change that the labels show are left out: they are of the old world."""


class ShadowSection(Section):
    """The stage in which the new model is asked beside the old one, and its answers are not given."""

    rows: Annotated[Integer, Ge(0)] = 200
    """Answers without a failure after which the stage ends; 0 leaves it out."""


class CanarySection(Section):
    """The stage in which the new model answers a part of the requests."""

    share: Annotated[Number, Gt(0), Le(1)] = 0.1
    """The part of the requests."""
    rows: Annotated[Integer, Ge(0)] = 500
    """Answers after which the stage ends, if labels have not shown before that it is better or worse; 0 leaves it out."""
    outcomes: Annotated[Integer, Ge(0)] = 0
    """Labels of such answers that are waited for as well."""


class OnlineSection(Section):
    """How a model learns on from where it is."""

    passes: Count = 5
    """Passes over the fresh rows; the weights after the best of them are kept."""
    learning_rate: Positive = 1e-3
    """The learning rate, constant."""


class OnAlarmSection(Section):
    """What `deepseek loop` does when an alarm is raised."""

    action: Literal["retrain", "online", "none"] = "retrain"
    """Train anew with the run's recipe, learn on from its weights, or nothing."""
    alarms: Annotated[list[Literal["metric", "drift"]], Field(min_length=1)] = ["metric"]
    """Which alarms begin a round."""
    recent: FreshRowsSection = FreshRowsSection()
    """Which labelled rows of production count."""
    holdout: Annotated[Number, Gt(0), Lt(1)] = 0.3
    """Share of them, the latest, that the new model is judged on and never sees."""
    keep_old: Annotated[Number, Ge(0), Le(1)] | Auto = AUTO
    """Share of the original training rows that is mixed in; `auto` tries all and none, and keeps what validates better on fresh rows."""
    online: OnlineSection = OnlineSection()
    """How it learns on, for the action `online`."""
    min_gain: NotNegative = 0.0
    """What the new model must be better by, surely: in the unit of `alarm.drop`."""
    alpha: Annotated[Number, Gt(0), Lt(0.5)] = 0.05
    """Largest probability that a new model that is no better passes, and that a good one is rolled back as worse."""
    shadow: ShadowSection = ShadowSection()
    """The stage beside the old model."""
    canary: CanarySection = CanarySection()
    """The stage with a part of the requests."""
    max_wait: Duration = 604_800.0
    """Time after which a stage that has not met its rows ends the round."""
    follow_up: Flag = True
    """Whether a model that was promoted is followed by another once twice as many rows have come as it was made of, while that helps."""
    promote: Literal["auto", "manual"] = "auto"
    """Whether a model that has passed everything is deployed by itself, or waits for `deepseek loop approve RUN`."""
    cooldown: Duration = 86_400.0
    """Time after a round in which none begins."""
    max_rounds_per_week: Count = 5
    """Most rounds in any seven days."""


class MonitorSection(Section):
    """How the model is watched in production."""

    alarm: AlarmSection = AlarmSection()
    """When a drop of a metric raises an alarm."""
    drift: Flag = True
    """Whether drift of a column or of the answers raises an alarm."""
    window: WindowSection = WindowSection()
    """How many requests are compared with the reference at a time."""
    consecutive: Count = 2
    """Windows in a row that a column must have drifted for an alarm, and be without drift for its end."""
    silence: Duration = 86_400.0
    """Time in which one alarm is told once."""
    notify: list[AlarmSpec] = []
    """Where alarms go."""
    store: Text = "monitor.db"
    """The log of requests: a file, or the URL of a database."""
    keep_inputs: Literal["nothing", "hashes", "values"] = "hashes"
    """What the log keeps of inputs: nothing, a keyed hash of each row, or their values."""
    retention: Duration | None = None
    """Time after which the log forgets a request; never where not given."""
    on_alarm: OnAlarmSection | None = None
    """What `deepseek loop` does when an alarm is raised."""


class LiveSection(Section):
    """Learning from a live stream."""

    max_wait: Duration = 5.0
    """How long messages wait for others to fill a batch."""
    rows: Count | None = None
    """Rows after which learning ends; never where not given."""
    idle: Duration | None = None
    """Time without a message after which learning ends; never where not given."""


class LearnSection(Section):
    """How a model learns from a stream, by `deepseek learn`."""

    time: Text | None = None
    """A column of times that the stream's rows are put in order by; as they come where not given."""
    warmup: Count = 1_000
    """First rows, which the transforms are fitted on where there is no run to go on from; they are answered and counted like all others."""
    batch_rows: Count = 32
    """Rows that are answered, and then learned from, together."""
    optimizer: OptimizerSpec = {"type": "adam", "learning_rate": 1e-3}
    """How gradients become steps."""
    replay: Annotated[Integer, Ge(0)] = 64
    """Batches kept for rehearsal; each new one is learned together with one of them."""
    detectors: list[DetectorSpec] = [{"type": "adwin"}]
    """What looks for changes in the errors; the first one's alarms are acted on."""
    at_change: Literal["forget", "retrain", "nothing"] = "forget"
    """What an alarm does: drop what is rehearsed and the optimizer's memory, also begin anew once `recent` rows have come, or nothing."""
    recent: Count = 1_000
    """Rows that a model begins anew with, and that the bundle's reference is made of."""
    save_every: Count | None = None
    """Rows after which the bundle is written; only at the end where not given, or after 1,000 and with the state for a live stream."""
    live: Flag | LiveSection = False
    """Whether the source is a stream that is learned from as its messages come, or when that waits and ends."""

    @property
    def live_section(self) -> LiveSection | None:
        """When learning from a live stream waits and ends, with the defaults for the bare word; nothing where the source is a table."""
        if isinstance(self.live, LiveSection):
            return self.live
        return LiveSection() if self.live else None


class QuantizeSection(Section):
    """How the trained network is brought to INT8."""

    precision: Literal["int8"] = "int8"
    """The arithmetic."""
    method: Literal["auto", "static", "dynamic"] = "auto"
    """Whether ranges of activations are measured beforehand, on training rows, or in each batch; `auto` tries what there is."""
    backend: Literal["auto", "onnx", "openvino"] = "auto"
    """What runs it; `auto` tries those that are installed, and keeps the fastest."""
    calibration_rows: Count = 512
    """Training rows on which ranges are measured."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How a range comes from what was seen: all of it, where least is lost, or without the outermost values."""
    per_channel: Flag = True
    """Whether each output channel of a weight has a scale of its own."""
    max_drop: Annotated[Number, Ge(0), Le(1)] = 0.005
    """What the monitored metric may lose on validation rows; of a metric without bound, the part of its value."""
    fall_back: Flag = True
    """Whether the layers that spoil the answers most stay in float32 where the whole loses more than it may."""


class CompressSection(Section):
    """How the trained model is made smaller and faster, once training has ended."""

    quantize: Literal["int8"] | QuantizeSection | None = None
    """`int8`, or how it is brought there; not at all where not given."""

    @property
    def int8(self) -> QuantizeSection | None:
        """How it is brought to INT8, with the defaults for the bare word."""
        return QuantizeSection() if self.quantize == "int8" else self.quantize


class SelfTrainingSection(Section):
    """How rows without a label are learned from: the model labels those that it is sure of, and is trained again with them."""

    unlabelled: SourceSpec | None = None
    """Where rows without the target come from; the rows of `data.source` that have none where not given."""
    rounds: Count = 3
    """How often rows are labelled and a model is trained with them, after the first that is trained without."""
    choose: Literal["threshold", "curriculum", "top"] = "threshold"
    """Which rows are taken: the sure ones; the sure ones, of classes that are learned slowly also less sure ones (FlexMatch); or of each
    class the surest `share`, and as many more in every round (curriculum labelling)."""
    threshold: Probability | dict[Text, Probability] = 0.9
    """How likely the likeliest class of a row must be, as one number or by class (0.9 for those that are not named)."""
    share: Annotated[Number, Gt(0), Le(1)] = 0.2
    """With `choose: top`, the share of rows taken in the first round."""
    balance: Literal["training", "equal", "none"] = "training"
    """In what proportion classes are taken: as among the labelled training rows, alike, or as they come."""
    most: Count | None = None
    """Most rows taken in a round, the surest of each class; all where not given."""
    weight: Positive | Literal["confidence"] = 1.0
    """What such a row weighs beside a labelled one; `confidence` for the probability of its class."""
    soft: Flag = False
    """Whether they are learned with the probabilities of all classes instead of the likeliest class."""
    student: OptionalModelSpec = None
    """The network that is trained with them; that of the recipe where not given."""
    keep: Literal["surely_better", "better"] = "surely_better"
    """When a round is kept: if the 95 % interval of what it is better by on validation rows lies above `min_gain`, or if it is better at
    all."""
    min_gain: NotNegative = 0.0
    """By how much a round must be better on validation rows than the model that was trained without, in the metric's unit."""


class RecipeSections(Section):
    """A recipe: one file that says everything about a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "run"
    """The run's name, which its folder bears; the recipe's file name where not given."""
    seed: Seed = 0
    """Seed of everything random."""
    plugins: list[Text] = []
    """Python files (relative to the recipe) and modules whose components the recipe names."""
    data: DataSection
    """Where rows come from and how they become arrays."""
    task: TaskSpec = AUTO
    """What the network is trained for."""
    model: ModelSpec = AUTO
    """The network."""
    train: TrainSection = TrainSection()
    """How the network is trained."""
    fine_tune: FineTuneSection | None = None
    """How the pre-trained parts of the network are trained."""
    tune: TuneSection | None = None
    """Which keys are searched for better values, by `deepseek tune`."""
    compress: CompressSection | None = None
    """How the trained model is made smaller and faster."""
    export: list[ExporterSpec] = []
    """What the trained model is exported to; `auto` measures which backend is fastest."""
    serve: ServeSection | None = None
    """How the model is served, by `deepseek serve`."""
    monitor: MonitorSection | None = None
    """How the model is watched in production."""
    learn: LearnSection | None = None
    """How a model learns from a stream, by `deepseek learn`."""
    self_training: SelfTrainingSection | None = None
    """How rows without a label are learned from."""
