"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from deepseek import DeepSeekClassifier, DeepSeekRegressor
from deepseek.estimators import EXPECTED_FAILED_CHECKS

LEARNING = {"check_classifiers_train", "check_regressors_train", "check_class_weight_classifiers", "check_classifiers_classes"}
"""Checks of how well an estimator learns; the others are of its manners, for which a few steps do."""


def name_of(check):
    while hasattr(check, "func"):
        check = check.func
    return check.__name__


def cases():
    for kind in (DeepSeekClassifier, DeepSeekRegressor):
        seen = {}
        for estimator, check in estimator_checks_generator(kind()):
            name = name_of(check)
            seen[name] = seen.get(name, 0) + 1
            if name not in LEARNING:
                estimator.set_params(model="mlp", overrides={"train.max_steps": 3})
            mark = pytest.mark.xfail(reason=EXPECTED_FAILED_CHECKS[name]) if name in EXPECTED_FAILED_CHECKS else ()
            yield pytest.param(estimator, check, id=f"{kind.__name__}-{name}-{seen[name]}", marks=mark)


@pytest.mark.parametrize(("estimator", "check"), list(cases()))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scikit_learns_check(estimator, check):
    check(estimator)
