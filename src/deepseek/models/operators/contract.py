"""Public tests of operators: derive a test class from `OperatorContract`, and pytest checks that your operator keeps its contract.

```python
class TestMyOperator(OperatorContract):
    def build(self, width: int) -> Operator:
        return MyOperator(width)

    def reference(self, operator: Operator, x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.log1p(np.abs(x))
```

Legend of shapes: `n` rows · `…` further dimensions · `w` width.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from deepseek.models.operators.base import Operator
from deepseek.models.operators.tensor import onnx_forms

_TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
_PYTORCHS_OWN = frozenset({"aten", "prims", "prim", "profiler", "inductor", "higher_order"})


class OperatorContract(ABC):
    """What every operator must do.

    Attributes:
        width: The width that operators are built with here.
        inner: The dimensions between a row and its width, of each shape that is tried.
        compiler: The backend of `torch.compile`; `aot_eager` traces forward and backward pass as all compilers do and writes no code.
    """

    width: ClassVar[int] = 6
    inner: ClassVar[tuple[tuple[int, ...], ...]] = ((), (3,), (2, 3))
    compiler: ClassVar[str] = "aot_eager"

    @abstractmethod
    def build(self, width: int) -> Operator:
        """Return an operator for a width."""

    @abstractmethod
    def reference(self, operator: Operator, x: np.ndarray) -> np.ndarray:
        """Return what the operator should answer, computed in float64 by other means.

        Args:
            operator: What was built, for its parameters.
            x: `[n, …, w]`.
        """

    def draw(self, *shape: int) -> Tensor:
        """Return float64 numbers that the operator is meant for; standard normal ones where that is not overridden."""
        return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + shape[0]))

    def test_its_values_are_those_of_the_reference(self) -> None:
        """In float64 to the last digits, for tensors of several dimensions, and as wide as it says."""
        operator = self._built()
        for inner in self.inner:
            x = self.draw(4, *inner, self.width)
            out = operator(x.clone().requires_grad_())
            assert out.shape == (4, *inner, operator.width)
            expected = torch.from_numpy(np.asarray(self.reference(operator, x.numpy()), dtype=np.float64))
            torch.testing.assert_close(operator(x).detach(), expected, rtol=1e-9, atol=1e-9)  # where nobody asks for gradients, too
            torch.testing.assert_close(out.detach(), expected, rtol=1e-9, atol=1e-9)

    def test_its_gradients_are_those_of_its_values(self) -> None:
        """The backward pass agrees with differences of the forward pass, for all inputs, and so does its own where it claims one."""
        operator, x = self._built(), self.draw(3, *self.inner[0], self.width).requires_grad_()
        names, parameters = [name for name, _ in operator.named_parameters()], [*operator.parameters()]

        def answer(x: Tensor, *values: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(operator, dict(zip(names, values, strict=True)), (x,))
            return out

        assert torch.autograd.gradcheck(answer, (x, *parameters))
        if operator.twice:
            assert torch.autograd.gradgradcheck(answer, (x, *parameters))

    def test_every_parameter_learns(self) -> None:
        """A gradient reaches each, and it is finite."""
        operator = self._built()
        operator(self.draw(4, *self.inner[0], self.width).requires_grad_()).square().sum().backward()
        for name, parameter in operator.named_parameters():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"

    def test_shapes_without_values_are_those_with_them(self) -> None:
        """Run on tensors that hold nothing, as compilers and exporters do, it returns the shape, format and strides of the real answer."""
        for rows, inner in itertools.product((4, 5), self.inner):
            operator, x = self._built(), self.draw(rows, *inner, self.width).requires_grad_()
            real = operator(x)
            mode = FakeTensorMode()
            held = {**dict(operator.named_parameters()), **dict(operator.named_buffers())}
            with mode:
                state: dict[str, Tensor] = {name: mode.from_tensor(value) for name, value in held.items()}
                empty = torch.func.functional_call(operator, state, (mode.from_tensor(x),))
            assert (empty.shape, empty.dtype, empty.stride()) == (real.shape, real.dtype, real.stride())

    def test_operators_of_its_own_are_well_registered(self) -> None:
        """PyTorch's own check of each operator that it calls: the signature is true, autograd and compilers can go through it."""
        operator = self._built()
        with _Calls() as calls:
            operator(self.draw(4, *self.inner[0], self.width).requires_grad_())
        for function, args in calls.made:
            live = [one.detach().clone().requires_grad_(one.is_floating_point()) if isinstance(one, Tensor) else one for one in args]
            torch.library.opcheck(function, tuple(live))

    def test_compiled_it_answers_the_same(self) -> None:
        """In one graph, for any number of rows: values and gradients."""
        operator = self._built()
        torch.compiler.reset()
        compiled = torch.compile(operator, backend=self.compiler, fullgraph=True, dynamic=True)
        for rows in (4, 7):
            sides = [self._with_gradients(way, self.draw(rows, *self.inner[-1], self.width)) for way in (operator, compiled)]
            for eager, traced in zip(*sides, strict=True):
                torch.testing.assert_close(traced, eager, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("form", ["program", "onnx", "openvino"])
    def test_exported_it_answers_the_same(self, form: str) -> None:
        """As a program of PyTorch's, by ONNX Runtime and by OpenVINO, for any number of rows."""
        operator = self.build(self.width).float().eval().requires_grad_(False)
        run = _FORMS[form](operator, self.draw(4, *self.inner[-1], self.width).float())
        for rows in (2, 4, 7):
            x = self.draw(rows, *self.inner[-1], self.width).float()
            torch.testing.assert_close(run(x), operator(x), rtol=1e-4, atol=1e-5)

    def test_the_same_input_gives_the_same_bits(self) -> None:
        """Twice in a row, values and gradients."""
        operator = self._built()
        sides = [self._with_gradients(operator, self.draw(5, *self.inner[-1], self.width)) for _ in range(2)]
        assert all(torch.equal(one, other) for one, other in zip(*sides, strict=True))

    def test_it_takes_the_formats_that_it_names(self) -> None:
        """What goes out has the format of what came in, and is as exact as that."""
        for dtype in self._built().dtypes:
            operator, x = self._built(), self.draw(4, *self.inner[0], self.width).to(dtype)
            expected = operator(x.double())
            out = operator.to(dtype)(x.requires_grad_())
            assert out.dtype == dtype
            torch.testing.assert_close(out.double(), expected, rtol=_TOLERANCES[dtype], atol=_TOLERANCES[dtype])

    def test_it_trains_under_autocast(self) -> None:
        """Between layers in half precision, its own parameters staying float32, its answers are near and its gradients finite."""
        torch.manual_seed(0)
        layer, operator = nn.Linear(self.width, self.width), self.build(self.width).float()
        x = self.draw(4, *self.inner[0], self.width).float()
        with torch.autocast("cpu", torch.bfloat16):
            near = operator(layer(x))
        torch.testing.assert_close(near.float(), operator(layer(x)), rtol=0.1, atol=0.1)
        near.float().sum().backward()
        assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in layer.parameters())

    def test_how_a_tensor_lies_in_memory_changes_nothing(self) -> None:
        """Transposed, stretched and sliced, and with a gradient of any layout."""
        operator = self._built()
        x = self.draw(4, *self.inner[-1], self.width)
        laid = [
            x.mT.contiguous().mT,
            torch.stack((x, x), dim=-1).flatten(-2)[..., ::2],
            x[:1].expand(4, *x.shape[1:]),
        ]
        for one in laid:
            assert not one.is_contiguous()
            sides = [self._with_gradients(operator, value) for value in (one, one.contiguous())]
            for strange, plain in zip(*sides, strict=True):
                torch.testing.assert_close(strange, plain, rtol=1e-12, atol=1e-12)

    def test_no_rows_are_legal(self) -> None:
        """An empty batch has an empty answer and an empty gradient."""
        operator = self._built()
        for inner in self.inner:
            out, gradient = self._with_gradients(operator, self.draw(0, *inner, self.width))[:2]
            assert out.shape == (0, *inner, operator.width)
            assert gradient.shape == (0, *inner, self.width)

    def test_what_came_in_is_neither_changed_nor_handed_out(self) -> None:
        """The input keeps its values, and the answer has memory of its own."""
        operator, x = self._built(), self.draw(4, *self.inner[-1], self.width)
        before = x.clone()
        out = operator(x.requires_grad_())
        assert torch.equal(x, before), "the input was changed"
        assert out.untyped_storage().data_ptr() != x.untyped_storage().data_ptr(), "the answer is the input's own memory"

    def test_a_row_does_not_hang_on_its_neighbours(self) -> None:
        """Alone it is answered as among others."""
        operator, x = self._built(), self.draw(5, *self.inner[-1], self.width)
        alone = torch.cat([operator(x[row : row + 1]) for row in range(5)])
        torch.testing.assert_close(alone, operator(x), rtol=1e-9, atol=1e-9)

    def test_a_pointwise_one_maps_values_wherever_they_stand(self) -> None:
        """With channels anywhere, as behind a convolution, the same values come out in the same places."""
        operator = self._built()
        if operator.pointwise:
            x = self.draw(4, 3, self.width)
            assert operator.width == self.width
            torch.testing.assert_close(operator(x.mT), operator(x).mT, rtol=1e-12, atol=1e-12)

    def test_a_copy_and_a_reader_of_its_state_answer_the_same(self) -> None:
        """What it has learned is in its parameters and buffers, and all of it."""
        operator, x = self._built(), self.draw(4, *self.inner[-1], self.width)
        with torch.no_grad():
            for parameter in operator.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        other = self.build(self.width).double()
        other.load_state_dict(operator.state_dict())
        assert torch.equal(other(x), operator(x))
        assert torch.equal(copy.deepcopy(operator)(x), operator(x))

    def _built(self) -> Operator:
        torch.manual_seed(0)
        return self.build(self.width).double()

    def _with_gradients(self, operator: Callable[[Tensor], Tensor], x: Tensor) -> Sequence[Tensor]:
        """Return the answer and its gradients: of the input, then of the parameters."""
        live = x.detach().requires_grad_()
        out = operator(live)
        parameters = [*operator.parameters()] if isinstance(operator, nn.Module) else []
        weights = torch.linspace(-1, 1, max(out.shape[-1], 1), dtype=out.dtype).expand_as(out)  # strides of zero, as sums have them
        return [out.detach(), *torch.autograd.grad(out, [live, *parameters], weights)]


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operators are called that are not PyTorch's own, and with what."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace not in _PYTORCHS_OWN:
            self.made.append((func, args))
        return func(*args, **(kwargs or {}))


def _dynamic() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("rows", min=1)},)


def _program(operator: Operator, x: Tensor) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(operator, (x,), dynamic_shapes=_dynamic())
    return program.module()


def _onnx_bytes(operator: Operator, x: Tensor) -> bytes:
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(
        operator, (x,), dynamo=True, dynamic_shapes=_dynamic(), custom_translation_table=onnx_forms(), opset_version=18, verbose=False
    )
    assert program is not None
    written: bytes = program.model_proto.SerializeToString()
    return written


def _onnx(operator: Operator, x: Tensor) -> Callable[[Tensor], Tensor]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(_onnx_bytes(operator, x), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: torch.from_numpy(session.run(None, {name: rows.numpy()})[0])


def _openvino(operator: Operator, x: Tensor) -> Callable[[Tensor], Tensor]:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    model = core.compile_model(core.read_model(_onnx_bytes(operator, x)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda rows: torch.from_numpy(np.array(model([rows.numpy()])[0]))


_FORMS = {"program": _program, "onnx": _onnx, "openvino": _openvino}
