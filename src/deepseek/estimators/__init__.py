"""scikit-learn's habits around the road: `fit`, `predict`, `score`, `clone`, grid searches and pipelines."""

from deepseek.errors import MissingExtraError

try:
    import sklearn  # noqa: F401 (the modules below need it)
except ModuleNotFoundError:
    raise MissingExtraError("sklearn", "sklearn", "an estimator") from None

from deepseek.estimators.base import EXPECTED_FAILED_CHECKS
from deepseek.estimators.classifier import DeepSeekClassifier
from deepseek.estimators.regressor import DeepSeekRegressor

__all__ = ["EXPECTED_FAILED_CHECKS", "DeepSeekClassifier", "DeepSeekRegressor"]
