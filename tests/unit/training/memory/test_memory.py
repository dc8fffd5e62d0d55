"""Memory followed operation by operation: what is alive, at which moment, and what that says of batches of another size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepseek.optim import OptimizerSpec
from deepseek.registry import family
from deepseek.training.memory.live import Growth, LiveMemory
from deepseek.training.memory.needs import _container_free, answer_growth, free_bytes, step_growth, update_memory, weight_bytes


def test_what_is_alive_is_counted_and_what_was_there_is_not():
    before = torch.ones(1000)
    with LiveMemory() as memory:
        view = before[:10].unsqueeze(0)
        assert memory.live_bytes == 0
        made = before + 1.0
        assert memory.live_bytes == 4000
        again = made.view(10, 100)
        del made
        assert memory.live_bytes == 4000
        del again
        assert memory.live_bytes == 0
    assert memory.peak_bytes == 4000
    assert view.shape == (1, 10)


def test_in_place_changes_take_nothing():
    weights = torch.ones(1000)
    with LiveMemory() as memory:
        weights.add_(1.0).mul_(2.0)
    assert memory.peak_bytes == 0


def test_a_full_device_is_one_that_raises():
    with pytest.raises(torch.OutOfMemoryError, match="8,000 bytes are wanted"), LiveMemory(limit_bytes=7_999):
        torch.zeros(2000)
    with LiveMemory(limit_bytes=8_000):
        torch.zeros(2000)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))


def moments(model: nn.Module, rows: int) -> LiveMemory:
    x = torch.randn(rows, 8)
    with LiveMemory() as memory:
        model(x).square().sum().backward()
    return memory


def test_two_small_steps_say_the_peak_of_a_large_one_exactly():
    growth = Growth((2, moments(net(), 2).moments), (4, moments(net(), 4).moments))
    for rows in (2, 3, 64, 5000):
        assert growth.peak(rows) == moments(net(), rows).peak_bytes
    # with two rows the gradients are the peak, which a line through the peaks would go on with
    two, four = moments(net(), 2).peak_bytes, moments(net(), 4).peak_bytes
    many = moments(net(), 5000).peak_bytes
    assert abs(many - (two + (four - two) / 2 * 4998)) > 10_000


def test_the_most_rows_are_the_last_that_fit():
    growth = Growth((2, [10, 20]), (4, [10, 40]))
    assert growth.most_rows(100, most=1000) == 10
    assert growth.most_rows(100, most=7) == 7
    assert growth.most_rows(9, most=1000) == 0


def test_another_number_of_operations_leaves_the_peaks_to_be_compared():
    assert Growth((2, [10, 30, 20]), (4, [10, 50])).peak(6) == 70


@pytest.mark.parametrize(
    ("name", "numbers"), [("adam", 2), ("adamw", 2), ("sgd", 1), ("rmsprop", 1), ("adagrad", 1), ("nadam", 2), ("radam", 2)], ids=str
)
def test_an_optimizers_state_is_what_it_keeps(name, numbers):
    model = net()
    spec: OptimizerSpec = family("optimizer").build(name)
    taken = update_memory(model, spec, clip_norm=1.0)
    assert 0 <= taken.state_bytes - numbers * weight_bytes(model) <= 16 * len([*model.parameters()])
    real = spec.build([{"params": [*model.parameters()]}])
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    real.step()
    held = sum(value.nbytes for values in real.state.values() for value in values.values())
    assert taken.state_bytes == held


def test_only_what_is_trained_has_gradients_and_state(small):
    model = small.net(norm=True)
    model.hidden.requires_grad_(False)
    spec = family("optimizer").build("adam")
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    assert weight_bytes(model, trained=True) == trained
    assert trained < weight_bytes(model) - sum(buffer.nbytes for buffer in model.buffers())
    assert update_memory(model, spec).state_bytes - 2 * trained <= 64


def test_a_tasks_step_and_answers_leave_the_model_as_it_was(small):
    model, task = small.net(norm=True, dropout=0.5), small.task()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    few = small.data().take(range(2))
    growth = step_growth(model, task.loss, few)
    assert growth.peak(1000) > growth.peak(10) > 0
    assert answer_growth(model, task, few).peak(1000) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_free_is_less_than_all():
    assert free_bytes(torch.device("cpu")) > 0


def test_files_that_a_container_has_read_count_as_free(tmp_path):
    told = {"max": "1000\n", "current": "900\n", "stat": "anon 300\ninactive_file 500\nactive_file 100\n"}
    for name, text in told.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert _container_free(tmp_path) == [600]
    (tmp_path / "memory.max").write_text("max\n")
    assert _container_free(tmp_path) == []
    assert _container_free(tmp_path / "nowhere") == []


def test_rates_by_layer_hold_a_second_set_of_weights_and_measure_on_a_copy_of_the_gradients(small):
    model, spec = small.net(), family("optimizer").build("sgd")
    trained = weight_bytes(model, trained=True)
    plain = update_memory(model, spec)
    rates = update_memory(model, spec, layer_rates="gradient_variance")
    assert plain.rules_bytes == 0
    assert trained <= rates.rules_bytes < 1.5 * trained + 512
    assert rates.peak_bytes >= plain.peak_bytes + trained
    units = update_memory(model, spec, clip=[{"type": "agc", "exclude": []}])
    assert units.rules_bytes < trained
    assert units.peak_bytes > plain.peak_bytes
