from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.augment import StillMissing, build_augmentations
from deepseek.data.augment.base import Draw, Known
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.image import ImageTransform
from deepseek.data.transforms.log_mel import Bands, LogMel
from deepseek.data.transforms.modules import ImageModule
from deepseek.errors import InputError
from deepseek.explainers.attention import looks, mean_between
from deepseek.fields import Field, Kind
from deepseek.models.base import Encoded
from deepseek.models.network import Network
from deepseek.registry import family

INPUTS = {
    "photo": InputSpec("photo", Kind.IMAGE, ("photo",), (8, 8, 3), "uint8"),
    "call": InputSpec("call", Kind.AUDIO, ("call",), (), "int16", ragged=True),
    "note": InputSpec("note", Kind.TEXT, ("note",), (), "int32", (30,), ragged=True),
    "numbers": InputSpec("numbers", Kind.NUMBER, ("a", "b"), (2,), "float32"),
}
MEAN = [100.2, 90.7, 80.0]
SMALL = {
    "photo": {"type": "cnn", "channels": [4, 8], "blocks": [0, 0], "pooling": "none"},
    "call": {"type": "audio_cnn", "channels": [4, 8], "blocks": [0, 0], "pool": "none"},
    "note": {"type": "text_cnn", "filters": 4, "pool": "none"},
    "table": {"type": "table", "numbers": "identity"},
}


def network(fusion="concat", **settings):
    torch.manual_seed(0)
    graph = {"photo": ImageModule(MEAN, [50.0, 50.0, 50.0]), "call": LogMel(Bands(8_000, n_fft=64, mels=8), hop=20)}
    return Network(INPUTS, graph, encoders=SMALL, fusion=fusion, trunk="identity", **settings)


def batch(rows=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 30, (rows, 5), generator=draw, dtype=torch.int32)
    ids[:, 0] = 2
    return {
        "photo": torch.randint(0, 256, (rows, 8, 8, 3), generator=draw, dtype=torch.uint8),
        "call": torch.randint(-9000, 9000, (rows, 300), generator=draw, dtype=torch.int16),
        "call_mask": torch.ones(rows, 300, dtype=torch.bool),
        "note": ids,
        "note_mask": torch.ones(rows, 5, dtype=torch.bool),
        "numbers": torch.randn(rows, 2, generator=draw),
    }


def without(inputs, *names):
    """The same rows, as the transforms leave what is missing."""
    inputs = {name: tensor.clone() for name, tensor in inputs.items()}
    if "photo" in names:
        inputs["photo"][:] = torch.tensor(np.rint(MEAN)).to(torch.uint8)
    if "call" in names:
        inputs["call"][:], inputs["call_mask"][:, 1:] = 0, False
    if "note" in names:
        inputs["note"][:, 1], inputs["note"][:, 2:], inputs["note_mask"][:, 2:] = 3, 0, False
    return inputs


@pytest.mark.parametrize("name", ["photo", "call", "note"])
def test_of_a_missing_sense_no_token_is_real(name):
    model = network().eval()
    for inputs, there in ((batch(), True), (without(batch(), name), False)):
        for key, part in model.encoded(inputs).items():
            real = torch.ones(6, dtype=torch.bool) if part.mask is None else part.mask.any(dim=1)
            assert real.all() == (there or model.senses[key] != name)
    assert not torch.allclose(model(batch()), model(without(batch(), name)))


def test_an_input_that_is_left_out_has_no_vote():
    graph = {"photo": ImageModule(MEAN, [50.0, 50.0, 50.0]), "call": LogMel(Bands(8_000, n_fft=64, mels=8), hop=20)}
    encoders = {**SMALL, "photo": "nothing", "table": "nothing"}
    model = Network(INPUTS, graph, encoders=encoders, fusion="late", trunk="identity", sense_dropout=0.9)
    shares = model.fusion.shares(model.train().encoded(batch()))
    left = [model.senses[key] in ("photo", "table") for key in model.encoders]
    assert not shares[:, left].any()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))  # dropped senses are never all but those that say nothing


def test_one_sense_alone_is_not_looked_for():
    model = Network({"note": INPUTS["note"]}, {}, encoders={"note": {**SMALL["note"], "pool": "max"}})
    assert model.encoded(without(batch(), "note"))["input_note"].mask is None


@pytest.mark.parametrize("fusion", ["concat", {"type": "gated", "width": 8}, {"type": "cross_attention", "width": 8, "heads": 2}, "late"])
def test_every_fusion_bears_what_is_missing(fusion):
    model = network(fusion).train()
    for names in ([], ["photo"], ["call", "note"], ["photo", "call", "note"]):
        out = model(without(batch(), *names))
        assert torch.isfinite(out).all()
        out.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None)


def test_senses_are_dropped_in_training_alone_and_never_all():
    model = network(sense_dropout=0.6)
    rows = {name: tensor.repeat(50, *[1] * (tensor.ndim - 1)) for name, tensor in batch().items()}

    def kept(inputs):
        parts = model.encoded(inputs)
        return torch.stack([part.mask.any(dim=1) for part in parts.values()], dim=1)

    had = kept(rows)
    assert had.any(dim=1).all()
    assert 0.47 < had.float().mean() < 0.59  # 0.4, and 0.6⁴ for the rows that would have lost everything
    lacking = kept(without(rows, "photo", "call"))
    keys = [model.senses[key] for key in model.senses]
    assert not lacking[:, keys.index("photo")].any()
    assert lacking.any(dim=1).all()
    model.eval()
    assert torch.equal(model(batch()), model(batch()))
    assert network().train().encoded(batch())["table"].mask is None


def test_behind_late_fusion_stands_the_decision_alone():
    with pytest.raises(InputError, match="take trunk: identity"):
        Network({"numbers": INPUTS["numbers"]}, {}, encoders={"table": SMALL["table"]}, fusion="late", trunk="mlp")


def test_late_fusion_averages_decisions_over_the_senses_there():
    model = network({"type": "late", "width": 5}).eval()
    torch.nn.init.normal_(model.fusion.votes)
    head = torch.nn.Linear(5, 2)
    inputs = batch()
    encoded = model.encoded(inputs)
    none = {key: Encoded(part.tokens, torch.zeros(part.tokens.shape[:2], dtype=torch.bool)) for key, part in encoded.items()}
    alone = torch.stack([head(model.fusion({**none, key: encoded[key]})) for key in encoded], dim=1)
    shares = model.fusion.shares(encoded)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(head(model(inputs)[:, 0]), (alone * shares.unsqueeze(-1)).sum(dim=1))
    lacking = model.encoded(without(inputs, "photo"))
    assert (model.fusion.shares(lacking)[:, list(encoded).index("input_photo")] == 0).all()
    torch.testing.assert_close(model.fusion.shares(lacking).sum(dim=1), torch.ones(6))


def test_gates_are_those_of_the_paper():
    model = network({"type": "gated", "width": 4}).eval()
    fusion, encoded = model.fusion, model.encoded(batch())
    vectors = []
    for key, part in encoded.items():
        mean = part.tokens if part.mask is None else part.tokens * part.mask.unsqueeze(-1)
        is_fixed = model.encoders[key].tokens is not None
        vectors.append(mean.flatten(1) if is_fixed else mean.sum(1) / part.mask.sum(1, keepdim=True))
    whole = torch.cat(vectors, dim=1)
    wanted = torch.zeros(6, 4)
    for place, vector in enumerate(vectors):
        rows = slice(4 * place, 4 * place + 4)
        gate = torch.sigmoid(whole @ fusion.gates.weight[rows].T + fusion.gates.bias[rows])
        wanted = wanted + gate * torch.tanh(fusion.says[place](vector))
    torch.testing.assert_close(model(batch())[:, 0], wanted)


def test_cross_attention_looks_at_other_senses_by_the_weights_that_it_uses():
    model = network({"type": "cross_attention", "width": 8, "heads": 2, "depth": 2, "dropout": 0.0}).eval()
    inputs = without(batch(), "note")
    seen = model.fusion.attended(model.encoded(inputs))
    for weights in seen.weights:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))
        assert not weights[..., :-1][~seen.mask[:, None, None].expand_as(weights[..., :-1])].any()
    found = looks(model, inputs)
    assert np.isnan(found.between[:, found.senses.index("note")]).all()
    mean = mean_between(found.between)
    assert np.isnan(mean[found.senses.index("note")]).all()  # no row looks from there: that is no zero
    np.testing.assert_allclose(np.delete(mean, found.senses.index("note"), axis=0).sum(axis=1), 1.0, rtol=1e-6)
    own = [found.between[:, place, place] for place in range(4) if found.senses[place] != "note"]
    assert not np.array(own).any()
    # turned off, they change the answer: what is shown is what is used
    before = model(inputs)
    with torch.no_grad():
        for block in model.fusion.blocks:
            block.query.weight.mul_(20)
    assert not torch.allclose(model(inputs), before)
    with pytest.raises(InputError, match="has no attention"):
        looks(network().eval(), inputs)


def test_a_missing_image_is_still_missing_after_augmentation():
    transform = ImageTransform((Field("photo", Kind.IMAGE),))
    transform.load_json({"size": [8, 8], "channels": 3, "mean": MEAN, "std": [50.0, 50.0, 50.0]})
    inputs = {name: tensor for name, tensor in batch().items() if name in ("photo", "numbers")}
    inputs["photo"][:3] = without(batch(), "photo")["photo"][:3]
    specs = {name: INPUTS[name] for name in inputs}
    (made,) = build_augmentations([{"type": "shift", "pixels": 2}, "noise"], specs, Known(transforms={"photo": transform}))
    assert isinstance(made, StillMissing)
    assert made.names == ("shift", "noise")
    changed = made.apply(Batch(inputs), Draw(torch.Generator().manual_seed(0), 0, 6)).inputs["photo"]
    assert transform.module().present(changed).tolist() == [False] * 3 + [True] * 3
    assert not torch.equal(changed[3:], inputs["photo"][3:])
    alone = build_augmentations(["flip"], {"photo": INPUTS["photo"]}, Known(transforms={"photo": transform}))
    assert not isinstance(alone[0], StillMissing)
    mask = InputSpec("mask", Kind.MASK, ("mask",), (8, 8), "uint8")
    masked = build_augmentations(["flip"], {"photo": INPUTS["photo"], "mask": mask}, Known(transforms={"photo": transform}))
    assert not isinstance(masked[0], StillMissing)  # a target is no sense to fall back on
    (cut,) = build_augmentations([{"type": "patch", "size": [4, 5]}], specs, Known(transforms={"photo": transform}))
    parts = cut.apply(Batch(inputs), Draw(torch.Generator().manual_seed(0), 0, 6)).inputs["photo"]
    assert parts.shape == (6, 4, 5, 3)
    assert transform.module().present(parts).tolist() == [False] * 3 + [True] * 3


def test_images_have_a_token_for_each_place():
    encoder = family("encoder").build(SMALL["photo"], {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (3, 8, 6), "float32")})
    x = torch.randn(2, 3, 8, 6)
    tokens = encoder.eval()({"photo": x}).tokens
    last = encoder.maps(x)[-1]
    assert tokens.shape == (2, encoder.tokens, 8)
    assert encoder.tokens == last.shape[2] * last.shape[3]
    torch.testing.assert_close(tokens[:, 1], last[:, :, 0, 1])
