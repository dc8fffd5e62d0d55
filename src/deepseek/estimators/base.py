"""What both estimators share: scikit-learn's conventions outside, the pipeline inside."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import _check_sample_weight, _check_y, check_array, check_consistent_length, check_is_fitted, validate_data

from deepseek import progress
from deepseek.data.columns import is_number
from deepseek.errors import InputError
from deepseek.estimators.tables import EstimatorError, frame_table, is_frame, matrix_table, require_finite, unused_name
from deepseek.fields import Kind
from deepseek.inference import Predictor
from deepseek.pipeline.preparing.sources import named_source
from deepseek.pipeline.result import RunResult
from deepseek.pipeline.run import run
from deepseek.recipe import load_recipe

_ONE_FIT = threading.Lock()
"""Torch's random generators and the switch of the terminal are the process's own: of fits in several threads one waits for the other."""

LEAST_VALIDATION_ROWS = 20
"""With fewer, what validation says is hardly more than chance, and the rows are better trained on."""


EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is not the row twice: batches are made of rows, of any weight",
    "check_methods_subset_invariance": "networks reckon in float32, whose last bits depend on how many rows go together; 1e-7 is asked for",
}
"""What of scikit-learn's `check_estimator` cannot hold, and why: give it as `expected_failed_checks`."""


class DeepSeekEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator that follows a recipe: the same data preparation, network and training as `deepseek.train`.

    Args:
        model: The network: a name (`"mlp"`, `"tabm"`), a mapping with the key `type`, or `auto`.
        epochs: Passes over the training rows.
        batch_size: Rows in one step.
        learning_rate: The highest rate.
        time_limit: Time after which training ends with the best weights so far: `"5m"`, or seconds.
        validation_fraction: The share of rows that say when to stop; 0 for none. Where it comes to fewer than 20 rows, all are trained on.
        random_state: The seed; the same one gives the same numbers.
        device: `auto`, `cpu`, or an accelerator by its torch name.
        overrides: Any other key of the recipe: `{"train.ema": 0.99}`, or `["train.ema=0.99"]`.
        categorical_features: Columns that are categories: by name, by place, or by a boolean for each column.
        fields: The kinds of other columns, by name: `{"joined": "timestamp"}`.
        verbose: Whether to show how it goes.
        out: The folder that keeps the run; without one it lives as long as the estimator.
    """

    def __init__(  # noqa: PLR0913 (an estimator's arguments are its schema)
        self,
        *,
        model: Any = "auto",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        time_limit: str | float | None = None,
        validation_fraction: float = 0.15,
        random_state: Any = None,
        device: str = "auto",
        overrides: Mapping[str, Any] | Sequence[str] | None = None,
        categorical_features: Sequence[str | int | bool] | None = None,
        fields: Mapping[str, str] | None = None,
        verbose: bool = False,
        out: str | PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.time_limit = time_limit
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device
        self.overrides = overrides
        self.categorical_features = categorical_features
        self.fields = fields
        self.verbose = verbose
        self.out = out

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_predictor")

    def _fit(self, table: pa.Table, y: Mapping[str, np.ndarray], weights: np.ndarray | None, task: Mapping[str, Any]) -> Self:
        """Train on checked rows: what every `fit` comes to.

        Args:
            table: The inputs, from `_table`.
            y: The target columns by the names that they are to bear.
            weights: How much each row weighs, above 0, or nothing.
            task: The task's spec.
        """
        names = []
        for wanted, values in y.items():
            names.append(unused_name(wanted, table.column_names))
            table = table.append_column(names[-1], pa.array(values))
        weight = None
        if weights is not None:
            weight = unused_name("sample_weight", table.column_names)
            table = table.append_column(weight, pa.array(weights))
        with _as_value_errors(), _ONE_FIT:
            self._run(table, names, weight, task)
        return self

    def _run(self, table: pa.Table, target: list[str], weight: str | None, task: Mapping[str, Any]) -> None:
        folder = TemporaryDirectory(prefix="deepseek-")
        out = Path(folder.name if self.out is None else self.out)
        recipe = self._recipe(table, target, weight, task)
        recipe["data"]["source"] = named_source(table, out)
        with progress.hushed(not self.verbose), progress.collected_warnings() as said:
            made = run(load_recipe(recipe, overrides=self._overrides()), out=out)
        self._predictor = Predictor.load(made.bundle)
        self._folder = folder
        self.run_: RunResult = made
        for message in dict.fromkeys(said):
            warnings.warn(message, UserWarning, stacklevel=4)

    def _recipe(self, table: pa.Table, target: list[str], weight: str | None, task: Mapping[str, Any]) -> dict[str, Any]:
        share = float(self.validation_fraction)
        if not 0 <= share < 1:
            raise EstimatorError(f"validation_fraction is {share:g}", hint="allowed: 0 to below 1")
        if round(share * table.num_rows) < LEAST_VALIDATION_ROWS:
            share = 0.0
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "time_limit": self.time_limit,
        }
        # what measuring would choose may differ from one fit to the next, and with it the numbers
        train = {"device": self.device, "precision": "fp32", "channels_last": False}
        return {
            "name": type(self).__name__,
            "seed": _seed(self.random_state),
            "data": {
                "target": target[0] if len(target) == 1 else target,
                "weight": weight,
                "fields": self._kinds() | dict.fromkeys(target, Kind.NUMBER.value) if task["type"] == "regression" else self._kinds(),
                "split": {"train": 1.0 - share, "validation": share, "test": 0.0},
            },
            "task": dict(task),
            "model": self.model,
            "train": train | {key: value for key, value in given.items() if value is not None},
        }

    def _overrides(self) -> list[str]:
        if isinstance(self.overrides, Mapping):
            return [f"{path}={json.dumps(value)}" for path, value in self.overrides.items()]
        return list(self.overrides or ())

    def _kinds(self) -> dict[str, str]:
        """Return the kinds that are known: a matrix of numbers holds numbers, whatever they look like."""
        kinds = {} if hasattr(self, "feature_names_in_") else dict.fromkeys(self._numbers, Kind.NUMBER.value)
        return kinds | dict.fromkeys(self._categories(), Kind.CATEGORY.value) | dict(self.fields or {})

    def _categories(self) -> list[str]:
        """Return the names of the columns that are said to be categories: by name, by place, or by a boolean for each column."""
        given = [] if self.categorical_features is None else list(self.categorical_features)
        count = len(self._columns)
        if given and all(isinstance(one, bool | np.bool_) for one in given):
            if len(given) != count:
                raise EstimatorError(f"categorical_features holds {len(given)} booleans for {count} columns", hint="give one for each")
            return [name for name, chosen in zip(self._columns, given, strict=True) if chosen]
        names = []
        for column in given:
            if isinstance(column, int | np.integer) and not -count <= column < count:
                raise EstimatorError(f"categorical_features names column {column} of {count}", hint=f"allowed: 0 to {count - 1}")
            names.append(self._columns[column] if isinstance(column, int | np.integer) else str(column))
        return names

    def _table(self, x: Any, *, reset: bool) -> pa.Table:
        """Return the rows as a table whose columns bear the names that they had in `fit`.

        Raises:
            ValueError: They are no table, not one like that of `fit`, or hold an infinite number.
        """
        if reset:  # what fails from here on leaves no network of an earlier fit beside the columns and classes of this one
            for name in ("_predictor", "_folder", "run_"):
                self.__dict__.pop(name, None)
        with _as_value_errors():
            table = require_finite(self._frame(x, reset=reset) if is_frame(x) else self._matrix(x, reset=reset))
        if reset:
            self._texts = [field.name for field in table.schema if not (is_number(field.type) or pa.types.is_boolean(field.type))]
        return table

    def _frame(self, x: Any, *, reset: bool) -> pa.Table:
        table, named = frame_table(x)
        if not table.num_rows:
            raise EstimatorError(f"found a table with 0 sample(s) (shape={table.shape}) while a minimum of 1 is required")
        by_place = type(x).__module__.partition(".")[0] in {"pandas", "polars"}
        if by_place:  # scikit-learn's own rules for frames: the same names in the same order
            validate_data(self, x, reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_in_, self.feature_names_in_ = table.num_columns, np.array(table.column_names, dtype=object)
        elif not hasattr(self, "feature_names_in_"):
            by_place = True
            if table.num_columns != self.n_features_in_:
                what = f"X has {table.num_columns} features, but {type(self).__name__} is expecting {self.n_features_in_} features"
                raise EstimatorError(what, hint="give the columns that it was fitted on")
        if reset:
            self._columns = table.column_names if named else _places(table.num_columns)
            self._numbers: list[str] = []
        return table.rename_columns(self._columns) if by_place else table

    def _matrix(self, x: Any, *, reset: bool) -> pa.Table:
        array = validate_data(self, x, reset=reset, dtype=None, ensure_all_finite=False, ensure_min_samples=2 if reset else 1)
        if array.dtype.kind == "f":
            check_array(array, ensure_all_finite="allow-nan", input_name="X", estimator=self)
        if reset:
            self._columns = _places(array.shape[1])
        table = matrix_table(array, self._columns, texts=() if reset else self._texts)
        if reset:
            self._numbers = [field.name for field in table.schema if field.type != pa.string()]
        return table

    def _answers(self, x: Any) -> pa.Table:
        check_is_fitted(self)
        table = self._table(x, reset=False)
        with _as_value_errors():
            answers: pa.Table = self._predictor.predict(table)
        return answers

    def report(self, output: str | PathLike[str] | None = None) -> Any:
        """Write a report of the run that `fit` made, as `deepseek.report` does; an estimator read from a file has no run any more.

        Args:
            output: The HTML file; in the run's folder where not given, which without `out` is temporary.
        """
        check_is_fitted(self)
        return self.run_.report(output)

    def __getstate__(self) -> dict[str, Any]:
        """Return the estimator's state with its bundle's files as bytes: no path of this machine, no live network."""
        state = dict(super().__getstate__())
        if "_predictor" in state:
            del state["_folder"]
            bundle = state.pop("_predictor").bundle.path
            state["_files"] = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the bundle to a folder of its own and open it; a file that is not as it was written is refused.

        Raises:
            BundleError: The bundle's hashes do not fit.
        """
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is None:
            return
        self._folder = TemporaryDirectory(prefix="deepseek-")
        bundle = Path(self._folder.name) / "bundle"
        for name, content in files.items():
            (bundle / name).parent.mkdir(parents=True, exist_ok=True)
            (bundle / name).write_bytes(content)
        self.run_ = replace(self.run_, run=Path(self._folder.name), bundle=bundle)
        self._predictor = Predictor.load(bundle)


def checked_targets(estimator: DeepSeekEstimator, y: Any, *, numbers: bool = False) -> np.ndarray:
    """Return targets as an array, `[rows]`, or for numbers also `[rows, targets]`.

    Raises:
        ValueError: They are absent, of another shape, or hold NaN or infinity.
    """
    if y is None:
        raise EstimatorError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    if numbers and hasattr(y, "to_numpy"):
        y = y.to_numpy()
    targets: np.ndarray = _check_y(y, multi_output=numbers, y_numeric=numbers, estimator=estimator)
    return targets.astype(np.float64) if numbers else targets


def weighed(table: pa.Table, y: np.ndarray, sample_weight: Any) -> tuple[pa.Table, np.ndarray, np.ndarray | None]:
    """Return rows, targets and weights without the rows that weigh nothing: a row of weight 0 is as good as absent.

    Raises:
        ValueError: There is not one target and one weight for each row, a weight is negative or not finite, or all are 0.
    """
    check_consistent_length(table, y)
    if sample_weight is None:
        return table, y, None
    weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    kept = weights > 0
    return table.filter(pa.array(kept)), y[kept], weights[kept]


def _places(columns: int) -> list[str]:
    return [f"x{place}" for place in range(columns)]


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """Raise what is wrong with the input as scikit-learn's tools expect it."""
    try:
        yield
    except ValueError:
        raise
    except InputError as error:
        raise EstimatorError(error.message, hint=error.hint) from error
