"""Operators with kernels of their own, made known at once to autograd, to compilers and to exporters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deepseek.errors import PluginError

_OWNERS: dict[str, str] = {}
"""Which file an operator is written in: a file that is read again may replace its own, and nobody else's."""
_ONNX: dict[str, Callable[..., Any]] = {}


def tensor_operator(
    name: str,
    *,
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    onnx: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of tensors an operator of PyTorch's, as a decorator.

    A function that is put together from PyTorch's operations needs none of this: it has gradients and can be compiled and exported as it
    stands. This is for what is not, or what PyTorch must not look into: NumPy, a library of one's own, a backward pass written by hand.

    The function's annotations are the operator's signature, as for `torch.library.custom_op`; it returns new tensors and changes none of
    those that it is given. What comes back is PyTorch's own object: `register_kernel("cuda")` gives it a kernel for another device.

    Args:
        name: `namespace::name`; the namespace is the plugin's.
        fake: The function of the same arguments that returns empty tensors of the right shapes, formats and devices; it sees no values.
        setup_context: `(ctx, inputs, output)`: keeps in `ctx` what the backward pass needs.
        backward: `(ctx, *gradients)` of the outputs: returns a gradient for each input, nothing for those without one. If it is made of
            PyTorch's operations, it has a gradient itself.
        onnx: The same function of values of an ONNX graph, in onnxscript; without one the operator cannot be exported to ONNX, OpenVINO
            and TensorRT.

    Raises:
        PluginError: The name is malformed or somebody else's, or there is one of `setup_context` and `backward` only.

    Example:
        ```python
        @tensor_operator("telecom::double", fake=torch.empty_like, setup_context=lambda ctx, inputs, output: None,
                         backward=lambda ctx, gradient: 2 * gradient, onnx=lambda x: op.Add(x, x))
        def double(x: Tensor) -> Tensor:
            return torch.from_numpy(2 * x.numpy())
        ```
    """
    namespace, _, short = name.partition("::")
    if not (namespace.isidentifier() and short.isidentifier()):
        raise PluginError(f"{name!r} is no name for an operator", hint="write namespace::name, the namespace being your plugin's")
    if (setup_context is None) != (backward is None):
        raise PluginError(f"the operator {name!r} has half a backward pass", hint="give both setup_context and backward, or neither")

    def register(forward: Callable[..., Any]) -> Any:
        _claim(name, forward.__code__.co_filename)
        operator = torch.library.custom_op(name, forward, mutates_args=())
        operator.register_fake(fake)
        if backward is not None:
            operator.register_autograd(backward, setup_context=setup_context)
        _ONNX.pop(name, None)
        if onnx is not None:
            give_onnx_form(name, onnx)
        return operator

    return register


def give_onnx_form(name: str, form: Callable[..., Any]) -> None:
    """Say how an operator that exists already, of a C++ extension for example, is written in ONNX.

    Args:
        name: `namespace::name`.
        form: The function of values of an ONNX graph, in onnxscript.
    """
    _ONNX[name] = form


def onnx_forms() -> dict[Any, Callable[..., Any]]:
    """Return the ONNX forms by operator, as `torch.onnx.export` takes them for its `custom_translation_table`."""
    return {_known(name).default: form for name, form in _ONNX.items()}


def _known(name: str) -> Any:
    namespace, _, short = name.partition("::")
    return getattr(getattr(torch.ops, namespace), short, None)


def _claim(name: str, file: str) -> None:
    """Note whose an operator is; PyTorch itself would let the second of two plugins silently take the first one's place."""
    owner = _OWNERS.get(name, file if _known(name) is None else "PyTorch or one of its extensions")
    if owner != file:
        raise PluginError(f"the operator {name!r} of {file} is there already: it is that of {owner}", hint="take another namespace")
    _OWNERS[name] = file
