"""Public tests of encoders and trunks: derive a test class from one of these, and pytest checks that your component keeps its contract.

```python
class TestMyTrunk(TrunkContract):
    def build(self, width_in: int) -> Trunk:
        return MyTrunk(width_in, depth=2)
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepseek.models.base import Encoded, Encoder, Trunk

ROWS = 6


class EncoderContract(ABC):
    """What every encoder must do."""

    @abstractmethod
    def build(self) -> Encoder:
        """Return a fresh encoder."""

    @abstractmethod
    def batch(self, rows: int) -> dict[str, Tensor]:
        """Return inputs for the encoder, `[rows, …]` each, as graph transforms leave them."""

    def test_tokens_have_the_promised_shape(self) -> None:
        """`[b, l, w]`, with `l` and `w` as the attributes say."""
        encoder = self.build().eval()
        tokens, mask = encoder(self.batch(ROWS))
        assert tokens.ndim == 3
        assert tokens.shape[0] == ROWS
        assert tokens.shape[2] == encoder.width
        assert encoder.tokens is None or tokens.shape[1] == encoder.tokens
        assert mask is None or (mask.dtype == torch.bool and mask.shape == tokens.shape[:2])

    def test_rows_do_not_see_each_other(self) -> None:
        """A row's tokens are the same whatever stands beside it, in evaluation."""
        encoder, batch = self.build().eval(), self.batch(ROWS)
        alone = encoder({name: tensor[:1] for name, tensor in batch.items()}).tokens
        torch.testing.assert_close(alone, encoder(batch).tokens[:1], rtol=1e-4, atol=1e-5)

    def test_no_rows_give_no_tokens(self) -> None:
        """A batch without rows is legal."""
        encoder = self.build().eval()
        tokens = encoder({name: tensor[:0] for name, tensor in self.batch(ROWS).items()}).tokens
        assert tokens.shape[0] == 0
        assert tokens.shape[-1] == encoder.width

    def test_every_parameter_learns(self) -> None:
        """The tokens' gradient reaches every parameter."""
        encoder = self.build().train()
        _require_gradients(encoder, encoder(self.batch(ROWS)).tokens)

    def test_weights_restore_the_encoder(self) -> None:
        """Another encoder with the same weights answers the same."""
        first, second, batch = self.build().eval(), self.build().eval(), self.batch(ROWS)
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(second(batch).tokens, first(batch).tokens, rtol=0, atol=0)

    def test_exports_for_any_number_of_rows(self) -> None:
        """`torch.export` takes the encoder with a dynamic batch."""
        encoder = self.build().eval()
        _require_export(_Tokens(encoder), self.batch(ROWS), self.batch(2 * ROWS + 1))


class TrunkContract(ABC):
    """What every trunk must do."""

    width_in = 5

    @abstractmethod
    def build(self, width_in: int) -> Trunk:
        """Return a fresh trunk."""

    def test_features_have_the_promised_shape(self) -> None:
        """`[b, m, w]`, with `m` and `w` as the attributes say."""
        trunk = self.build(self.width_in).eval()
        assert trunk(torch.randn(ROWS, self.width_in)).shape == (ROWS, trunk.members, trunk.width)

    def test_rows_do_not_see_each_other(self) -> None:
        """A row's features are the same whatever stands beside it, in evaluation."""
        trunk, x = self.build(self.width_in).eval(), torch.randn(ROWS, self.width_in)
        torch.testing.assert_close(trunk(x[:1]), trunk(x)[:1], rtol=1e-4, atol=1e-5)

    def test_every_parameter_learns(self) -> None:
        """The features' gradient reaches every parameter."""
        trunk = self.build(self.width_in).train()
        _require_gradients(trunk, trunk(torch.randn(ROWS, self.width_in)))

    def test_weights_restore_the_trunk(self) -> None:
        """Another trunk with the same weights answers the same."""
        first, second, x = self.build(self.width_in).eval(), self.build(self.width_in).eval(), torch.randn(ROWS, self.width_in)
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)

    def test_exports_for_any_number_of_rows(self) -> None:
        """`torch.export` takes the trunk with a dynamic batch."""
        trunk = self.build(self.width_in).eval()
        _require_export(_Named(trunk), {"x": torch.randn(ROWS, self.width_in)}, {"x": torch.randn(2 * ROWS + 1, self.width_in)})


class _Tokens(nn.Module):
    """An encoder whose answer is a plain tensor."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        encoded: Encoded = self.encoder(inputs)
        return encoded.tokens


class _Named(nn.Module):
    """A trunk that takes its vector from a mapping."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = self.trunk(inputs["x"])
        return out


def _require_gradients(module: nn.Module, out: Tensor) -> None:
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return  # there is nothing to learn
    (out * torch.randn_like(out)).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"


def _require_export(module: nn.Module, small: dict[str, Tensor], large: dict[str, Tensor]) -> None:
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        exported = torch.export.export(module, (small,), dynamic_shapes=({name: {0: rows} for name in small},)).module()
        torch.testing.assert_close(exported(large), module(large), rtol=1e-4, atol=1e-5)
