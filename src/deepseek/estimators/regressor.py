"""A regressor with scikit-learn's habits."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from deepseek.estimators.base import DeepSeekEstimator, checked_targets, weighed
from deepseek.estimators.tables import target_name


class DeepSeekRegressor(RegressorMixin, DeepSeekEstimator):  # type: ignore[misc]
    """A scikit-learn regressor that follows a recipe: the data preparation, network and training of `deepseek.train`.

    It takes what `DeepSeekClassifier` takes, and one or several numbers to predict. Its arguments are those of the classifier, without
    `class_weight`.

    Attributes:
        n_features_in_: How many columns `X` had.
        feature_names_in_: Their names, where they had names.
        run_: What the run came to: its folder, its bundle, its metrics.

    Example:
        ```python
        model = DeepSeekRegressor(random_state=0).fit(X, y)
        print(model.score(X_test, y_test))  # R²
        ```
    """

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train on rows and their numbers.

        Args:
            X: The rows: a table, `[rows, columns]`.
            y: What is to be predicted, `[rows]` or `[rows, targets]`.
            sample_weight: How much each row weighs, `[rows]`; rows of weight 0 are left out.

        Raises:
            ValueError: They cannot be trained on; the message says why.
        """
        table = self._table(X, reset=True)
        targets = checked_targets(self, y, numbers=True)
        table, targets, weights = weighed(table, targets, sample_weight)
        self._shape = targets.shape[1:]
        names = [target_name(y)] if not self._shape else _names(y, self._shape[0])
        columns = targets.reshape(len(targets), -1).T
        return self._fit(table, dict(zip(names, columns, strict=True)), weights, {"type": "regression"})

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return each row's number, float64 `[rows]`, or `[rows, targets]` as `y` was given."""
        answers = self._answers(X)
        values: np.ndarray = np.column_stack([np.asarray(column) for column in answers.columns])
        return values.reshape(len(values), *self._shape)


def _names(y: object, targets: int) -> list[str]:
    given = [name for name in getattr(y, "columns", ()) if isinstance(name, str)]
    return given if len(set(given)) == targets else [f"target_{place}" for place in range(targets)]
