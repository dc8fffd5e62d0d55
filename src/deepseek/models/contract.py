"""Public tests of encoders, fusions and trunks: derive a class from one of these, and pytest checks that your component keeps its contract.

```python
class TestMyTrunk(TrunkContract):
    def build(self, width_in: int) -> Trunk:
        return MyTrunk(width_in, depth=2)
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from deepseek.models.base import Encoded, Encoder, Fusion, Trunk

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


class RaggedEncoderContract(EncoderContract):
    """What every encoder of rows of unequal length must do besides.

    `batch` returns `NAME` `[rows, l, …]`, zeros behind each row's end, and `NAME_mask` `[rows, l]`. Its first row must be the shortest, of
    one element, and its last the longest.
    """

    def test_padding_changes_nothing(self) -> None:
        """The same rows with more padding behind them have the same tokens and give the same gradients."""
        encoder, batch = self.build().eval(), self.batch(ROWS)
        tokens, mask = encoder(batch)
        padded, mask_padded = encoder(_padded(batch, 5))
        length = tokens.shape[1]
        real = 1.0 if mask is None else mask.unsqueeze(-1)
        torch.testing.assert_close(padded[:, :length] * real, tokens * real, rtol=1e-4, atol=1e-5)
        assert mask is None or (torch.equal(mask_padded[:, :length], mask) and not mask_padded[:, length:].any())
        first, second = (_gradients(encoder, batch, more) for more in (0, 5))
        torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-5)

    def test_what_stands_behind_a_row_is_not_read(self) -> None:
        """Only the mask says where a row ends."""
        encoder, batch = self.build().eval(), self.batch(ROWS)
        mask = _mask_of(batch)
        dirty = {name: tensor if tensor is mask else _soiled(tensor, mask) for name, tensor in batch.items()}
        assert any(not torch.equal(dirty[name], batch[name]) for name in batch), "the batch must have rows of unequal length"
        real = _real(encoder(batch))
        torch.testing.assert_close(_real(encoder(dirty)), real, rtol=1e-4, atol=1e-5)

    def test_the_order_of_rows_is_kept(self) -> None:
        """Rows in another order have the same tokens, in that order."""
        encoder, batch = self.build().eval(), self.batch(ROWS)
        order = torch.arange(ROWS).flip(0)
        turned = encoder({name: tensor[order] for name, tensor in batch.items()})
        straight = encoder(batch)
        mask = None if straight.mask is None else straight.mask[order]
        torch.testing.assert_close(_real(turned), _real(Encoded(straight.tokens[order], mask)), rtol=1e-4, atol=1e-5)

    def test_a_row_of_one_element_is_finite(self) -> None:
        """The shortest row is answered, and teaches, without a NaN: in float32 and in bfloat16."""
        encoder = self.build().train()
        batch = {name: tensor[:1, :1] for name, tensor in self.batch(ROWS).items()}
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                tokens = encoder(batch).tokens
            assert torch.isfinite(tokens).all()
            _require_gradients(encoder, tokens.float())

    def test_bfloat16_answers_alike(self) -> None:
        """Under autocast the tokens are those of float32, within what bfloat16 can tell apart."""
        encoder, batch = self.build().eval(), self.batch(ROWS)
        plain = _real(encoder(batch))
        with torch.autocast("cpu", torch.bfloat16):
            short = _real(encoder(batch))
        assert (short.float() - plain).abs().max() <= 0.05 * plain.abs().max()

    def test_the_same_batch_is_answered_the_same(self) -> None:
        """Twice the same, to the bit."""
        encoder, batch = self.build().eval(), self.batch(ROWS)
        assert torch.equal(_real(encoder(batch)), _real(encoder(batch)))

    def test_exports_for_any_number_of_rows(self) -> None:
        """`torch.export` takes the encoder with a dynamic batch and a dynamic length, down to one row of one element."""
        encoder = self.build().eval()
        large = _padded(self.batch(2 * ROWS + 1), 3)
        single = {name: tensor[:1, :1] for name, tensor in self.batch(ROWS).items()}
        _require_export(_Tokens(encoder), self.batch(ROWS), large, single, ragged=True)


class FusionContract(ABC):
    """What every fusion must do: of three senses, the second with as many tokens as its rows are long.

    Attributes:
        lengths: How many tokens each sense of the batches has.
    """

    lengths = (1, 6, 3)
    width_in = 5

    @abstractmethod
    def build(self, encoders: Mapping[str, Encoder]) -> Fusion:
        """Return a fresh fusion of these encoders."""

    def encoders(self) -> dict[str, Encoder]:
        """Return encoders that give what they are given."""
        fixed = (self.lengths[0], None, self.lengths[2])
        return {name: _Given(tokens, self.width_in) for name, tokens in zip("abc", fixed, strict=True)}

    def batch(self, rows: int) -> dict[str, Encoded]:
        """Return tokens of all senses; those of the second are of unequal number."""
        tokens = {name: torch.randn(rows, length, self.width_in) for name, length in zip("abc", self.lengths, strict=True)}
        ends = torch.linspace(1, self.lengths[1], rows).round().long().unsqueeze(1)
        return {
            "a": Encoded(tokens["a"]),
            "b": Encoded(tokens["b"], torch.arange(self.lengths[1]) < ends),
            "c": Encoded(tokens["c"], torch.ones(rows, self.lengths[2], dtype=torch.bool)),
        }

    def test_vectors_have_the_promised_shape(self) -> None:
        """`[b, w]`."""
        fusion = self.build(self.encoders()).eval()
        assert fusion(self.batch(ROWS)).shape == (ROWS, fusion.width)
        assert fusion(self.batch(0)).shape == (0, fusion.width)

    def test_rows_do_not_see_each_other(self) -> None:
        """A row's vector is the same whatever stands beside it, in evaluation."""
        fusion, batch = self.build(self.encoders()).eval(), self.batch(ROWS)
        torch.testing.assert_close(fusion(_only(batch, slice(0, 2))), fusion(batch)[:2], rtol=1e-4, atol=1e-5)

    def test_tokens_under_the_mask_change_nothing(self) -> None:
        """What stands behind a row's end is not read, and more of it neither."""
        fusion, batch = self.build(self.encoders()).eval(), self.batch(ROWS)
        plain = fusion(batch)
        tokens, mask = batch["b"]
        assert mask is not None
        soiled = Encoded(_soiled(tokens, mask) * 100, mask)
        torch.testing.assert_close(fusion({**batch, "b": Encoded(torch.where(mask.unsqueeze(-1), tokens, soiled.tokens), mask)}), plain)
        longer = Encoded(torch.cat((tokens, torch.ones(ROWS, 4, self.width_in)), dim=1), torch.cat((mask, torch.zeros(ROWS, 4) > 0), dim=1))
        torch.testing.assert_close(fusion({**batch, "b": longer}), plain, rtol=1e-4, atol=1e-5)

    def test_a_missing_sense_changes_nothing(self) -> None:
        """Of a sense that a row lacks, nothing is read; the others are, and no number becomes NaN."""
        fusion, batch = self.build(self.encoders()).eval(), self.batch(ROWS)
        whole = fusion(batch)
        for name in "abc":
            none = torch.zeros(batch[name].tokens.shape[:2], dtype=torch.bool)
            without = fusion({**batch, name: Encoded(batch[name].tokens, none)})
            torch.testing.assert_close(fusion({**batch, name: Encoded(torch.randn_like(batch[name].tokens) * 9, none)}), without)
            assert torch.isfinite(without).all()
            assert not torch.allclose(without, whole), "it had something to say, and is missed"

    def test_rows_that_lack_all_are_finite(self) -> None:
        """A row with nothing at all is answered, and teaches, without a NaN: in float32 and in bfloat16."""
        fusion = self.build(self.encoders()).train()
        batch = {
            name: Encoded(part.tokens, torch.zeros(part.tokens.shape[:2], dtype=torch.bool)) for name, part in self.batch(ROWS).items()
        }
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                out = fusion(batch)
            assert torch.isfinite(out).all()
            if not out.requires_grad:
                continue  # there is nothing to learn
            fusion.zero_grad()
            (out.float() * torch.randn_like(out.float())).sum().backward()
            assert all(one.grad is None or torch.isfinite(one.grad).all() for one in fusion.parameters())

    def test_every_parameter_learns(self) -> None:
        """The vectors' gradient reaches every parameter, where some rows lack a sense."""
        fusion, batch = self.build(self.encoders()).train(), self.batch(ROWS)
        lacking = {
            name: Encoded(part.tokens, torch.arange(ROWS)[:, None].expand(part.tokens.shape[:2]) % 3 > 0) for name, part in batch.items()
        }
        _require_gradients(fusion, fusion(lacking))

    def test_weights_restore_the_fusion(self) -> None:
        """Another fusion with the same weights answers the same."""
        first, second, batch = self.build(self.encoders()).eval(), self.build(self.encoders()).eval(), self.batch(ROWS)
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(second(batch), first(batch), rtol=0, atol=0)

    def test_exports_for_any_number_of_rows(self) -> None:
        """`torch.export` takes the fusion with a dynamic batch."""
        fusion = _Fused(self.build(self.encoders()).eval())
        _require_export(fusion, _flattened(self.batch(ROWS)), _flattened(self.batch(2 * ROWS + 1)))


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


class _Given(Encoder):
    def __init__(self, tokens: int | None, width: int) -> None:
        super().__init__({})
        self.tokens, self.width = tokens, width

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        raise NotImplementedError


class _Fused(nn.Module):
    """A fusion that takes tokens and masks from one mapping."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = self.fusion({name: Encoded(inputs[name], inputs.get(f"{name}_mask")) for name in inputs if "_" not in name})
        return out


def _flattened(batch: Mapping[str, Encoded]) -> dict[str, Tensor]:
    return {name: part.tokens for name, part in batch.items()} | {
        f"{name}_mask": part.mask for name, part in batch.items() if part.mask is not None
    }


def _only(batch: Mapping[str, Encoded], rows: slice) -> dict[str, Encoded]:
    return {name: Encoded(part.tokens[rows], None if part.mask is None else part.mask[rows]) for name, part in batch.items()}


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


def _require_export(module: nn.Module, example: dict[str, Tensor], *others: dict[str, Tensor], ragged: bool = False) -> None:
    dynamic = {0: torch.export.Dim("rows", min=1), **({1: torch.export.Dim("length", min=1)} if ragged else {})}
    with torch.no_grad():
        exported = torch.export.export(module, (example,), dynamic_shapes=(dict.fromkeys(example, dynamic),)).module()
        for other in others:
            torch.testing.assert_close(exported(other), module(other), rtol=1e-4, atol=1e-5)


def _padded(batch: Mapping[str, Tensor], more: int) -> dict[str, Tensor]:
    """Return the batch with so many more zeros behind every row."""
    return {name: torch.cat((tensor, tensor.new_zeros(tensor.shape[0], more, *tensor.shape[2:])), dim=1) for name, tensor in batch.items()}


def _mask_of(batch: Mapping[str, Tensor]) -> Tensor:
    return next(tensor for name, tensor in batch.items() if name.endswith("_mask"))


def _soiled(tensor: Tensor, mask: Tensor) -> Tensor:
    """Return the tensor with ones behind each row's end."""
    return torch.where(mask.reshape(*mask.shape, *(1 for _ in tensor.shape[2:])), tensor, torch.ones_like(tensor))


def _real(encoded: Encoded) -> Tensor:
    return encoded.tokens if encoded.mask is None else encoded.tokens * encoded.mask.unsqueeze(-1)


def _gradients(encoder: Encoder, batch: Mapping[str, Tensor], more: int) -> dict[str, Tensor]:
    """Return the gradients of the squared tokens, the batch padded by so much; in float64, as behind a normalisation they nearly cancel."""
    exact = deepcopy(encoder).double()
    wide = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in _padded(batch, more).items()}
    _real(exact(wide)).square().sum().backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad for name, parameter in exact.named_parameters() if parameter.grad is not None}
