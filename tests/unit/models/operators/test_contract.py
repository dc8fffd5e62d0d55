"""The suite of operators, tried on a plugin's, and on operators that are wrong in one way each: it has to find every one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepseek.models.operators.base import Operator
from deepseek.models.operators.contract import OperatorContract
from deepseek.models.operators.tensor import tensor_operator
from deepseek.registry import family, load_plugin


def signed_log(x):
    return np.sign(x) * np.log1p(np.abs(x))


class TestAPluginsOperator(OperatorContract):
    @pytest.fixture(autouse=True)
    def _plugin(self, plugins_forgotten):
        load_plugin("signed_log.py", Path(__file__).parent)

    def build(self, width):
        return family("operator").build("signed_log", width)

    def reference(self, operator, x):
        return signed_log(x)


class Gain(Operator):
    """Scales each column: an operator with a parameter, of PyTorch's operations."""

    def __init__(self, width: int, /) -> None:
        super().__init__(width)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.to(x.dtype)


class TestAnOperatorWithAParameter(OperatorContract):
    def build(self, width):
        return Gain(width)

    def reference(self, operator, x):
        return x * operator.gain.detach().numpy()


class TestAnOperatorOfSeries(OperatorContract):
    """The mean of the last three steps: something that looks along another dimension than the last."""

    inner = ((4,), (6,))

    class Rolling(Operator):
        """The mean of up to three steps of `[b, l, w]`."""

        def forward(self, x: Tensor) -> Tensor:
            sums = torch.nn.functional.pad(x, (0, 0, 2, 0))
            counts = torch.ones_like(x).cumsum(1).clamp(max=3)
            return (sums[:, 2:] + sums[:, 1:-1] + sums[:, :-2]) / counts

    def build(self, width):
        return self.Rolling(width)

    def reference(self, operator, x):
        return np.stack([x[:, max(0, end - 3) : end].mean(axis=1) for end in range(1, x.shape[1] + 1)], axis=1)


def keep(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


def backward(ctx, gradient):
    return 2 * gradient * ctx.saved_tensors[0]


def onnx(x):
    from onnxscript import opset18 as op

    return op.Mul(x, x)


GOOD = {"fake": torch.empty_like, "setup_context": keep, "backward": backward, "onnx": onnx}


def square(name, forward=None, **parts):
    """A class of operators that square, but for the parts given."""

    def plain(x: Tensor) -> Tensor:
        return x * x

    function = tensor_operator(f"wrong::{name}", **{**GOOD, **parts})(forward or plain)
    return type(name, (Operator,), {"forward": lambda self, x: function(x), "__doc__": name, "pointwise": True})


def of_torch(forward, **attributes):
    return type("OfTorch", (Operator,), {"forward": lambda self, x: forward(x), "__doc__": "A square.", **attributes})


def cube(x: Tensor) -> Tensor:
    return x * x * x


def changing(x: Tensor) -> Tensor:
    out = x * x
    x.mul_(2)
    return out


def flat_in_memory(x: Tensor) -> Tensor:
    """Reads memory in order, as a careless kernel does."""
    if x.numel() == 0:
        return x * x
    values = torch.as_strided(x, x.shape, x.new_empty(x.shape, device="meta").stride(), x.storage_offset())
    return values * values


def of_rows(x: Tensor) -> Tensor:
    first = x.flatten()[0]  # fails on no rows
    return x * x + 0 * first


def always_wide(x: Tensor) -> Tensor:
    return (x * x).double()


def minus_onnx(x):
    from onnxscript import opset18 as op

    return op.Neg(op.Mul(x, x))


def noisy(x: Tensor) -> Tensor:
    return x * x * (1 + 1e-3 * torch.rand((), dtype=x.dtype))


class Forgetful(Operator):
    """Learns something that is no part of its state."""

    def __init__(self, width: int, /) -> None:
        super().__init__(width)
        self.shift = torch.randn(width, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x * x + self.shift


WRONG = {
    "values": (lambda: square("values", forward=cube), "test_its_values_are_those_of_the_reference"),
    "backward": (
        lambda: square("backward", backward=lambda ctx, gradient: gradient * ctx.saved_tensors[0]),
        "test_its_gradients_are_those_of_its_values",
    ),
    "second_backward": (
        lambda: square("second_backward", backward=lambda ctx, gradient: 2 * gradient * ctx.saved_tensors[0].detach()),
        "test_its_gradients_are_those_of_its_values",
    ),
    "no_backward": (lambda: square("no_backward", backward=None, setup_context=None), "test_its_gradients_are_those_of_its_values"),
    "fake_shape": (
        lambda: square("fake_shape", fake=lambda x: x.new_empty(*x.shape[:-1], x.shape[-1] + 1)),
        "test_shapes_without_values_are_those_with_them",
    ),
    "fake_shape_checked": (
        lambda: square("fake_shape_checked", fake=lambda x: x.new_empty(*x.shape[:-1], x.shape[-1] + 1)),
        "test_operators_of_its_own_are_well_registered",
    ),
    "fake_format": (
        lambda: square("fake_format", fake=lambda x: x.new_empty(x.shape, dtype=torch.float32)),
        "test_shapes_without_values_are_those_with_them",
    ),
    "fake_rows": (
        lambda: square("fake_rows", fake=lambda x: x.new_empty(4, *x.shape[1:])),
        "test_shapes_without_values_are_those_with_them",
    ),
    "onnx_form": (lambda: square("onnx_form", onnx=minus_onnx), "test_exported_it_answers_the_same", "onnx"),
    "onnx_form_in_openvino": (lambda: square("onnx_form_in_openvino", onnx=minus_onnx), "test_exported_it_answers_the_same", "openvino"),
    "no_onnx_form": (lambda: square("no_onnx_form", onnx=None), "test_exported_it_answers_the_same", "onnx"),
    "noise": (lambda: of_torch(noisy), "test_the_same_input_gives_the_same_bits"),
    "format": (lambda: square("format", forward=always_wide), "test_it_takes_the_formats_that_it_names"),
    "layout": (lambda: of_torch(flat_in_memory), "test_how_a_tensor_lies_in_memory_changes_nothing"),
    "no_rows": (lambda: of_torch(of_rows), "test_no_rows_are_legal"),
    "change": (lambda: of_torch(lambda x: changing(x.detach()) + 0 * x), "test_what_came_in_is_neither_changed_nor_handed_out"),
    "memory": (lambda: of_torch(lambda x: x), "test_what_came_in_is_neither_changed_nor_handed_out"),
    "neighbours": (lambda: of_torch(lambda x: x * x - x.mean(0)), "test_a_row_does_not_hang_on_its_neighbours"),
    "not_pointwise": (
        lambda: of_torch(lambda x: x * x / x.mean(-1, keepdim=True), pointwise=True),
        "test_a_pointwise_one_maps_values_wherever_they_stand",
    ),
    "state": (lambda: Forgetful, "test_a_copy_and_a_reader_of_its_state_answer_the_same"),
    "graph_break": (lambda: of_torch(lambda x: x * x if float(x.detach().sum()) > -1e9 else x), "test_compiled_it_answers_the_same"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_the_suite_finds_what_is_wrong(fault):
    make, test, *arguments = WRONG[fault]
    wrong = make()

    class Suite(OperatorContract):
        def build(self, width):
            return wrong(width)

        def reference(self, operator, x):
            return x * x

    with pytest.raises(Exception) as caught:
        getattr(Suite(), test)(*arguments)
    assert not isinstance(caught.value, (AttributeError, NameError, TypeError)), caught.value


def test_a_good_square_passes_what_finds_the_wrong_ones():
    """The faults above are found for what they are, not because squares fail."""
    good = square("good")

    class Suite(OperatorContract):
        def build(self, width):
            return good(width)

        def reference(self, operator, x):
            return x * x

    for test, *arguments in {case[1:] for case in WRONG.values()}:
        getattr(Suite(), test)(*arguments)
