"""The report draws the rates of the layers that changed most, where a run had any."""

from deepseek.reporting.facts import CurveFacts
from deepseek.reporting.report import MOST_LAYERS, _training


def test_the_rates_that_changed_most_are_drawn():
    steps = [10, 20, 30]
    rates = {f"layer{place}": [1.0, 1.0 + 0.1 * place, float("nan")] for place in range(MOST_LAYERS + 2)}
    curves = {"steps": steps, "loss": [1.0] * 3, "learning_rate": [0.1] * 3}
    drawn = "".join(map(str, _training(CurveFacts(**curves, layer_rates=rates))))
    assert "Rate of layers" in drawn
    assert f"layer{MOST_LAYERS + 1}" in drawn
    assert "layer0" not in drawn
    assert f"{MOST_LAYERS} of {MOST_LAYERS + 2} layers" in drawn
    assert "Rate of layers" not in "".join(map(str, _training(CurveFacts(**curves))))
