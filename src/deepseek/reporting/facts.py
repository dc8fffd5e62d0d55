"""What a report says of a run, as plain values: whoever collects it and whoever draws it know only this.

Legend of shapes: `n` rows · `k` classes or labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepseek.reporting.forecast import ForecastFacts
from deepseek.statistics.curves import CalibrationBin, ThresholdRow


@dataclass(frozen=True)
class Figure:
    """A metric on the rows of a split, with its 95 % interval where one could be computed."""

    metric: str
    split: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ColumnFact:
    """A column of the table: its kind, what it is to the model, and how many of its values are missing (where that is known)."""

    name: str
    kind: str
    role: str
    missing: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class DataFacts:
    """Where the rows came from and what became of them."""

    rows: Mapping[str, int]
    columns: Sequence[ColumnFact]
    set_aside: Sequence[tuple[str, str, int]]
    warnings: Sequence[str]
    leaks: Mapping[str, int]
    files: Sequence[Mapping[str, Any]]
    twins: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Choice:
    """What `auto` became, and why."""

    path: str
    value: str
    reason: str


@dataclass(frozen=True)
class CurveFacts:
    """How training went: steps and running losses, the metrics at each validation, and each layer's factor on its rate where it has one."""

    steps: Sequence[int] = ()
    loss: Sequence[float] = ()
    learning_rate: Sequence[float] = ()
    validation_steps: Sequence[int] = ()
    validation: Mapping[str, Sequence[float]] = field(default_factory=dict)
    monitor: str = ""
    best_step: int | None = None
    stopped: str = ""
    layer_rates: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundFact:
    """A round of self-training: how many rows were learned with a model's labels, of which classes, and what that came to."""

    number: int
    rows: int
    changed: int
    by_class: Mapping[str, int]
    value: float
    gain: Sequence[float]
    kept: bool


@dataclass(frozen=True)
class SelfTrainingFacts:
    """Self-training: the metric on validation rows that rounds are compared by, where rows came from, and the rounds."""

    metric: str
    reason: str
    stopped: str
    unlabelled: int
    left_out: Mapping[str, int]
    rounds: Sequence[RoundFact]


@dataclass(frozen=True)
class Points:
    """A curve by its name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    area: float | None = None


@dataclass(frozen=True)
class Spread:
    """Counts between edges, by name; of weighted rows what they weigh."""

    edges: Sequence[float]
    counts: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ClassFacts:
    """Answers that are classes, on `n` rows: the confusion matrix `[k, k]` (true by predicted) and, for two classes, what scores tell.

    `confusion` counts rows; `weighed` is what these rows weigh, and the same where they have no weights.
    """

    classes: Sequence[str]
    confusion: Sequence[Sequence[int]]
    weighed: Sequence[Sequence[float]]
    calibration: Sequence[CalibrationBin]
    calibration_error: float
    brier: float
    roc: Sequence[Points] = ()
    precision_recall: Sequence[Points] = ()
    thresholds: Sequence[ThresholdRow] = ()
    base_rate: float | None = None
    scores: Spread | None = None


@dataclass(frozen=True)
class LabelFact:
    """One label: of how many rows it is true and called, and how right that is, by the rows' weights."""

    label: str
    rows: int
    called: int
    precision: float
    recall: float
    f1: float
    auc: float


@dataclass(frozen=True)
class ValueFacts:
    """A predicted number: true and predicted values of (a sample of) the rows, and the error by tenths of the true value."""

    target: str
    truth: Sequence[float]
    predicted: Sequence[float]
    residuals: Spread
    deciles: Sequence[tuple[float, float, int, float, float]]


@dataclass(frozen=True)
class SliceFact:
    """Rows with something in common whose errors are larger than the others', beyond chance."""

    name: str
    rows: int
    error: float
    others: float
    p_value: float


@dataclass(frozen=True)
class SliceFacts:
    """The worst slices: what the error is, how many candidates were tested, and what was found."""

    error: str
    tested: int
    least_rows: int
    found: Sequence[SliceFact]


@dataclass(frozen=True)
class GroupFact:
    """Rows that share a value of a column: how many train, the target among them, and the errors among the rows that were looked at.

    Attributes:
        name: The value.
        training: Training rows.
        share: Their share of all training rows.
        expected: The share that was said to be right, if one was.
        verdict: `missing`, `rare` or `frequent` beside that share, beyond chance; else nothing.
        rate: The target's mean among its training rows (a share, for two classes), with a 95 % interval.
        looked_at: Rows that the model was asked.
        error: Their mean error, with a 95 % interval.
        others: The mean error of the other rows.
        p_value: Of the test whether it is worse, corrected; nothing where there are too few rows.
        surely_worse: What the test says.
    """

    name: str
    training: int
    share: float
    expected: float | None
    verdict: str
    rate: tuple[float, float, float] | None
    looked_at: int
    error: tuple[float, float, float] | None
    others: float
    p_value: float | None
    surely_worse: bool


@dataclass(frozen=True)
class CoverageFacts:
    """The groups of one column: what the rate and the error are, the fewest rows of a test, and rows of values too rare to be listed."""

    column: str
    rate: str
    error: str
    least_rows: int
    groups: Sequence[GroupFact]
    unlisted: int = 0


@dataclass(frozen=True)
class ImportanceFacts:
    """How much worse the metric gets when a column is shuffled: column, mean, and the ends of its interval."""

    metric: str
    rows: int
    repeats: int
    columns: Sequence[tuple[str, float, float, float]]


@dataclass(frozen=True)
class AttentionFacts:
    """Between which senses a network looks, on average over some rows: for each how its looks are shared among all, and nowhere.

    NaN for a sense that none of the rows has.
    """

    rows: int
    senses: Sequence[str]
    between: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Example:
    """A row that the model gets wrong: what is true, what it says, how sure it is, the raw values, and pictures as JPEG."""

    row: int
    truth: str
    answer: str
    measure: str
    values: Sequence[tuple[str, str]] = ()
    pictures: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True)
class RowFacts:
    """What only the rows themselves tell: on which split, how many of them were looked at, what weighs them, and what was found."""

    split: str
    looked_at: int
    of: int
    weighted_by: str | None = None
    answers: ClassFacts | None = None
    labels: Sequence[LabelFact] = ()
    values: Sequence[ValueFacts] = ()
    slices: SliceFacts | None = None
    importance: ImportanceFacts | None = None
    attention: AttentionFacts | None = None
    examples: Sequence[Example] = ()
    coverage: Sequence[CoverageFacts] = ()


@dataclass(frozen=True)
class FormFact:
    """One form of a model: what it reaches, what it takes, and for how many rows its answer is another than the model's own.

    Attributes:
        name: PyTorch, or the runtime and the arithmetic.
        metric: The monitored metric.
        lost: What is lost of it, in its own direction; below 0 where something is gained.
        others: Rows that are answered otherwise.
        rows: Of how many.
        size_bytes: Of its files.
        weight_bytes: Of its weights alone.
        one_s: Median time of a row alone.
        many_s: Median time of 32 rows together.
        memory_bytes: Peak memory of a process that answers with it; nothing where it could not be measured.
    """

    name: str
    metric: float
    lost: float
    others: int
    rows: int
    size_bytes: int
    weight_bytes: int
    one_s: float
    many_s: float
    memory_bytes: int | None


@dataclass(frozen=True)
class CompressionFacts:
    """A model in fewer bits beside itself.

    Attributes:
        folder: Where what was kept stands.
        metric: What is monitored.
        max_drop: What might be lost of it.
        kept: The form that was kept.
        floats: The layers that stayed in float32.
        layers: How many layers there are with weights.
        machine: The processor on which times and memory were measured.
        threads: With how many threads.
        forms: The model itself first, then each form.
        refused: What was not taken, and why.
    """

    folder: str
    metric: str
    max_drop: float
    kept: str
    floats: Sequence[str]
    layers: int
    machine: str
    threads: int
    forms: Sequence[FormFact]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class PictureFact:
    """One picture with what is in it and what was answered.

    Attributes:
        row: Its row in the table.
        measure: How right the answer is, in words.
        truth: The picture with what is there, as JPEG.
        answer: The picture with what was answered, as JPEG.
    """

    row: int
    measure: str
    truth: bytes
    answer: bytes


@dataclass(frozen=True)
class PicturesFacts:
    """Some pictures of a split with masks or boxes drawn over them.

    Attributes:
        split: The split's name.
        looked_at: From among how many rows.
        of: The split's rows.
        how: What the pictures are ordered by, in words.
        colours: Each class that is drawn, and its colour.
        shown: The pictures, from the worst answered to the best.
    """

    split: str
    looked_at: int
    of: int
    how: str
    colours: Sequence[tuple[str, str]]
    shown: Sequence[PictureFact]


@dataclass(frozen=True)
class ReportFacts:
    """Everything that a report says.

    Attributes:
        name: The run's name.
        run: The run's folder.
        created: When training began, in words.
        task: The task's name.
        target: The target's columns.
        model: The model's name.
        missing: What cannot be told, and why.
        figures: The metrics of all splits; the values are those of the run itself.
        intervals: How the intervals were made.
        data: Where the rows came from.
        choices: What was decided for the user.
        curves: How training went.
        rows: What the rows tell; nothing where they are not at hand.
        compressed: What was brought to fewer bits, each with its table.
        examples_left_out: Whether raw rows were not to be shown.
        timing: What took how long, in seconds, and other figures of speed.
        environment: Versions.
        recipe: The recipe, as YAML.
        commands: What to type to do it again.
        seed: The recipe's seed.
        self_training: How rounds of self-training went, where there were any.
        forecast: A forecast's errors step by step, and the split that they are of; nothing for other tasks.
        pictures: Pictures with masks or boxes; nothing for other tasks, and where raw rows were not to be shown.
    """

    name: str
    run: str
    created: str
    task: str
    target: Sequence[str]
    model: str
    missing: Sequence[str]
    figures: Sequence[Figure]
    intervals: str
    data: DataFacts
    choices: Sequence[Choice]
    curves: CurveFacts
    rows: RowFacts | None
    compressed: Sequence[CompressionFacts]
    examples_left_out: bool
    timing: Mapping[str, float]
    environment: Mapping[str, str]
    recipe: str
    commands: Sequence[str]
    seed: int
    self_training: SelfTrainingFacts | None = None
    forecast: tuple[str, ForecastFacts] | None = None
    pictures: PicturesFacts | None = None
