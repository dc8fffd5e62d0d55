"""A classifier with scikit-learn's habits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from deepseek.data.columns import spell
from deepseek.estimators.base import DeepSeekEstimator, checked_targets, weighed
from deepseek.estimators.tables import EstimatorError, target_name


class DeepSeekClassifier(ClassifierMixin, DeepSeekEstimator):  # type: ignore[misc]
    """A scikit-learn classifier that follows a recipe: the data preparation, network and training of `deepseek.train`.

    It takes NumPy arrays, pandas, polars and Arrow tables, Hugging Face datasets, mappings of columns and lists. Frames are treated by the
    types of their columns (categories, times, texts, missing values); arrays of numbers hold numbers.

    Args:
        model: The network: a name (`"mlp"`, `"tabm"`), a mapping with the key `type`, or `auto`.
        epochs: Passes over the training rows, at least 1; chosen by the data where not given, as are the next two.
        batch_size: Rows in one step.
        learning_rate: The highest rate.
        time_limit: Time after which training ends with the best weights so far: `"5m"`, or seconds.
        validation_fraction: The share of rows that say when to stop, from 0 (none) to below 1. Where it comes to fewer than 20 rows, all
            are trained on.
        random_state: The seed: the same one gives the same numbers.
        device: `auto`, `cpu`, or an accelerator by its torch name.
        overrides: Any other key of the recipe: `{"train.ema": 0.99}`, or `["train.ema=0.99"]`.
        categorical_features: Columns that are categories: by name, by place, or by a boolean for each column.
        fields: The kinds of other columns, by name: `{"joined": "timestamp"}`.
        verbose: Whether to show how it goes.
        out: The folder that keeps the runs; without one a run lives as long as its estimator.
        class_weight: `balanced`, or weights by class.

    Attributes:
        classes_: The classes, sorted, in the type of `y`.
        n_features_in_: How many columns `X` had.
        feature_names_in_: Their names, where they had names.
        run_: What the run came to: its folder, its bundle, its metrics.

    Example:
        ```python
        model = DeepSeekClassifier(random_state=0).fit(X, y)
        print(model.score(X_test, y_test))
        ```
    """

    def __init__(  # noqa: PLR0913 (scikit-learn reads an estimator's arguments off its constructor)
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
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            time_limit=time_limit,
            validation_fraction=validation_fraction,
            random_state=random_state,
            device=device,
            overrides=overrides,
            categorical_features=categorical_features,
            fields=fields,
            verbose=verbose,
            out=out,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train on rows and their classes.

        Args:
            X: The rows: a table, `[rows, columns]`.
            y: Their classes: text, whole numbers or booleans, `[rows]`.
            sample_weight: How much each row weighs, `[rows]`; rows of weight 0 are left out.

        Raises:
            ValueError: They cannot be trained on; the message says why.
        """
        table = self._table(X, reset=True)
        targets = checked_targets(self, y)
        check_classification_targets(targets)
        table, targets, weights = weighed(table, targets, sample_weight)
        self.classes_: np.ndarray = np.unique(targets)
        if len(self.classes_) < 2:
            raise EstimatorError(f"y has one class only: {self.classes_[0]!r}", hint="a classifier needs rows of two classes or more")
        texts, _ = spell(pa.array(self.classes_), "y")
        self._spellings = [str(text) for text in texts]
        task = {"type": "binary" if len(self.classes_) == 2 else "multiclass", "class_weights": self._class_weights()}
        return self._fit(table, {target_name(y): targets}, weights, task)

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return every class's probability, float64 `[rows, classes]`, in the order of `classes_`."""
        answers = self._answers(X)
        shares: np.ndarray = np.column_stack([np.asarray(answers[f"probability_{text}"], dtype=np.float64) for text in self._spellings])
        shares /= shares.sum(axis=1, keepdims=True)
        return shares

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return each row's likeliest class, `[rows]`, in the type of `y`."""
        shares = self.predict_proba(X)
        classes: np.ndarray = self.classes_[shares.argmax(axis=1)]
        return classes

    def _class_weights(self) -> Any:
        if not isinstance(self.class_weight, Mapping):
            return self.class_weight
        spelled = dict(zip(self.classes_.tolist(), self._spellings, strict=True))
        return {spelled.get(name, str(name)): float(weight) for name, weight in self.class_weight.items()}
