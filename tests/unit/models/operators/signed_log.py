"""An operator as a plugin writes it: a kernel in NumPy with a backward pass, shapes and an ONNX form of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deepseek.models.operators.base import Operator
from deepseek.models.operators.tensor import tensor_operator
from deepseek.registry import family


def _keep(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


def _backward(ctx, gradient):
    return gradient / (1 + ctx.saved_tensors[0].abs())


def _onnx(x):
    from onnxscript import opset18 as op

    return op.Mul(op.Sign(x), op.Log(op.Add(op.Abs(x), op.CastLike(op.Constant(value_float=1.0), x))))


@tensor_operator("examples::signed_log", fake=lambda x: x.new_empty(x.shape), setup_context=_keep, backward=_backward, onnx=_onnx)
def signed_log(x: Tensor) -> Tensor:
    values = x.detach().float().numpy() if x.dtype in (torch.bfloat16, torch.float16) else x.detach().numpy()
    return torch.from_numpy(np.ascontiguousarray(np.copysign(np.log1p(np.abs(values)), values))).to(x.dtype)


@family("operator").register("signed_log")
class SignedLog(Operator):
    """`sign(x) · log(1 + |x|)`: numbers of any size in a few units."""

    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return signed_log(x)
