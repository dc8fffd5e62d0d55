from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.log_mel import Bands, LogMel
from deepseek.errors import InputError, RecipeError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder
from deepseek.models.forecasting.base import Forecaster
from deepseek.models.fusion import ConcatFusion
from deepseek.models.network import Network, module_key, parameter_count, without_pretrained
from deepseek.registry import family
from deepseek.tasks.model import TaskModel

QUANTILES = np.tile(np.linspace(-2, 2, 17, dtype=np.float32), (3, 1))
TABLE = {
    "numbers": InputSpec("numbers", Kind.NUMBER, ("a", "b"), (2,), "float32", quantiles=QUANTILES),
    "codes": InputSpec("codes", Kind.CATEGORY, ("c",), (1,), "int32", (4,)),
}
REVIEW = {"review.en": InputSpec("review.en", Kind.TEXT, ("review.en",), (), "int32", (12,), ragged=True)}
PHOTO = {"photo.front": InputSpec("photo.front", Kind.IMAGE, ("photo.front",), (16, 12, 3), "uint8")}
BERT = {"model_type": "bert", "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
SMALL = {
    "audio_cnn": {"channels": [4, 4], "blocks": [0, 0]},
    "audio_rnn": {"width": 4, "depth": 1},
    "mlp": {"width": 8},
    "residual": {"width": 8},
    "tabm": {"width": 8, "members": 4},
    "wide_deep": {"width": 8, "crosses": [["a", "c"]]},
    "cnn": {"channels": [4, 8], "blocks": [0, 1]},
    "resnet": {},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.3},
    "text_bag": {"width": 8, "buckets": 20, "weighted": True},
    "text_cnn": {"filters": 4, "token_width": 8},
    "text_rnn": {"width": 8, "token_width": 8},
    "text_transformer": {"width": 8, "heads": 2, "positions": "learned"},
    "text_pretrained": {"config": BERT},
    "image_timm": {"architecture": "test_resnet"},
    "keras": {"builder": "build_deepseek_model", "arguments": {"num_classes": 2}},
    "network": {"trunk": {"type": "mlp", "width": 8}, "encoders": {"image": {"type": "cnn", "channels": [4], "blocks": [0]}}},
}
OPTIONAL = {"image_timm": "timm", "keras": "keras"}


class WithIndicator(nn.Module):
    def forward(self, x):
        missing = torch.isnan(x)
        return torch.cat((x.nan_to_num(), missing[:, :1].float()), dim=1)


class ToFloat(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 1, 2).float() / 255


def case():
    inputs = {**TABLE, **PHOTO, **REVIEW}
    batch = {
        "numbers": torch.tensor([[0.5, -1.0], [float("nan"), 2.0], [1.0, 0.0]]),
        "codes": torch.tensor([[0], [3], [1]], dtype=torch.int32),
        "photo.front": torch.randint(0, 256, (3, 16, 12, 3), dtype=torch.uint8),
        "review.en": torch.tensor([[2, 5, 7, 11], [2, 0, 0, 0], [2, 3, 0, 0]], dtype=torch.int32),
        "review.en_mask": torch.tensor([[True] * 4, [True, False, False, False], [True, True, False, False]]),
    }
    return inputs, {"numbers": WithIndicator(), "photo.front": ToFloat()}, batch


MODELS = {name: family("model").get(name) for name in family("model").names()}
VECTORS = [name for name, model in MODELS.items() if model.features == "vector" and not issubclass(model, Forecaster)]


@pytest.mark.parametrize("name", VECTORS)
def test_every_model_takes_tables_images_and_texts_together_and_every_parameter_learns(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    torch.manual_seed(0)
    inputs, graph, batch = case()
    if name.startswith("audio"):
        inputs = {**inputs, "call": InputSpec("call", Kind.AUDIO, ("call",), (), "int16", ragged=True)}
        graph = {**graph, "call": LogMel(Bands(8_000, n_fft=64, mels=8), hop=20)}
        batch = {**batch, "call": torch.randint(1, 900, (3, 200), dtype=torch.int16), "call_mask": torch.ones(3, 200, dtype=torch.bool)}
    spec = family("model").validate({"type": name, **SMALL[name]})
    task = family("task").build("binary", TargetSpec("binary", ("y",), ("no", "yes"), (1, 1), 2))
    model = TaskModel(family("model").build(spec, inputs, graph), task)
    out = model.train()(batch)
    assert out.shape == (3, model.network.members, 1)
    task.loss(out, _labelled(batch))[0].backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", [name for name in VECTORS if name.startswith("text_")])
def test_text_presets_have_their_encoders_keys_and_defaults(name):
    model = family("model").validate(name)
    assert model.pop("trunk") == family("trunk").validate("identity")
    assert model == family("encoder").validate(name)


@pytest.mark.parametrize(
    ("name", "part"), [("cnn", "encoder"), ("resnet", "encoder"), ("efficientnet", "encoder"), ("mlp", "trunk"), ("residual", "trunk")]
)
def test_presets_have_their_parts_keys_and_defaults(name, part):
    model, own = family("model").validate(name), family(part).validate(name)
    assert {key: value for key, value in model.items() if key in own} == own


@pytest.mark.parametrize("name", ["tabm", "cnn", "wide_deep"])
def test_prediction_exports_for_any_number_of_rows(name):
    # The other models' encoders and trunks are exported in tests/contract.
    torch.manual_seed(0)
    inputs, graph, batch = case()
    task = family("task").build("binary", TargetSpec("binary", ("y",), ("no", "yes"), (1, 1), 2))
    model = TaskModel(family("model").build({"type": name, **SMALL[name]}, inputs, graph), task).eval()
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        exported = torch.export.export(_Predicting(model), (batch,), dynamic_shapes=({key: {0: rows} for key in batch},)).module()
        large = {key: torch.cat((tensor, tensor)) for key, tensor in batch.items()}
        torch.testing.assert_close(exported(large), model.predict(large), rtol=1e-4, atol=1e-5)
        assert model.predict({key: tensor[:0] for key, tensor in batch.items()})["probability"].shape == (0, 2)


def _labelled(batch):
    from deepseek.data.batch import Batch

    return Batch(batch, {"target": torch.tensor([0.0, 1.0, 1.0])})


class _Predicting(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model.predict(inputs)


def test_encoders_see_inputs_as_graph_transforms_leave_them():
    inputs, graph, _ = case()
    network = Network(inputs, graph)
    assert network.encoders["table"].inputs["numbers"].shape == (3,)
    assert network.encoders[module_key("photo.front")].inputs["photo.front"].shape == (3, 16, 12)


def test_an_encoder_can_be_named_for_an_input_or_a_kind():
    inputs, graph, _ = case()
    linear = {"type": "table", "numbers": {"type": "linear", "width": 5}}
    network = Network(inputs, graph, encoders={"numbers": linear, "photo.front": "efficientnet"})
    assert set(network.encoders) == {"table", *map(module_key, ("numbers", "photo.front", "review.en"))}
    assert list(network.encoders["table"].inputs) == ["codes"]
    assert type(network.encoders[module_key("photo.front")]).__name__ == "EfficientNetEncoder"
    assert network.encoders[module_key("numbers")].width == 15


def test_fusion_and_trunk_are_replaced_by_name():
    plain = Network(TABLE, {"numbers": WithIndicator()}, trunk="identity")
    assert plain.width == plain.fusion.width
    tabm = Network(TABLE, {"numbers": WithIndicator()}, trunk={"type": "tabm", "members": 3, "width": 6})
    assert (tabm.members, tabm.width) == (3, 6)


def test_errors_name_what_is_wrong():
    scan = InputSpec("scan", Kind.VOLUME, ("scan",), (8, 8, 8, 1), "float32")
    with pytest.raises(InputError, match="no encoder takes the input 'scan' of kind 'volume'"):
        Network({"scan": scan}, {})
    with pytest.raises(InputError, match="no inputs"):
        Network({}, {})
    with pytest.raises(UnknownNameError, match="'numbrs'"):
        Network(TABLE, {}, encoders={"numbrs": "table"})
    with pytest.raises(UnknownNameError, match="'image'"):
        Network(TABLE, {}, encoders={"image": "cnn"})
    with pytest.raises(UnknownNameError, match="'gone'"):
        Network(TABLE, {"gone": nn.Identity()})
    with pytest.raises(InputError, match="without an image"):
        family("model").build("cnn", TABLE, {})
    with pytest.raises(InputError, match="'text_cnn' without a text"):
        family("model").build("text_cnn", TABLE, {})
    with pytest.raises(RecipeError, match="residual_evry"):
        family("model").validate({"type": "mlp", "residual_evry": 2})


def test_the_mask_of_a_text_reaches_its_encoder():
    torch.manual_seed(0)
    network = Network(REVIEW, {}, trunk="identity").eval()
    assert type(network.encoders[module_key("review.en")]).__name__ == "TextCnnEncoder"
    ids = torch.tensor([[2, 5, 7, 11]], dtype=torch.int32)
    mask = torch.tensor([[True, True, False, False]])
    short = network({"review.en": ids[:, :2]})
    torch.testing.assert_close(network({"review.en": ids, "review.en_mask": mask}), short)
    assert not torch.allclose(network({"review.en": ids}), short)


def test_presets_pass_their_keys_on():
    graph = {"numbers": WithIndicator()}
    model = family("model").build(
        {"type": "tabm", "embedding": {"type": "linear", "width": 3}, "variant": "mini", "one_hot": 0}, TABLE, graph
    )
    assert model.encoders["table"].width == 3 * 3 + 8
    assert model.trunk.scale is not None
    deep = family("model").build({"type": "mlp", "depth": 5, "residual_every": 2}, TABLE, graph)
    assert (len(deep.trunk.blocks), deep.trunk.residual_every) == (5, 2)


def test_weights_have_the_same_names_every_time():
    names = [list(Network(TABLE, {"numbers": WithIndicator()}).state_dict()) for _ in range(2)]
    assert names[0] == names[1]
    assert "encoders.table.embeddings.number_0.weight" in names[0]
    assert "trunk.blocks.0.0.weight" in names[0]


def test_concat_averages_real_tokens_where_their_number_varies():
    class Words(Encoder):
        width, tokens = 2, None

        def forward(self, inputs):
            return Encoded(inputs["t"], inputs["m"])

    fusion = ConcatFusion({"words": Words({})})
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert fusion.width == 2
    assert fusion({"words": Encoded(tokens, mask)}).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_parameter_count_leaves_out_frozen_ones_where_asked():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert (parameter_count(layer), parameter_count(layer, trainable=True)) == (8, 6)


def test_a_bundle_looks_for_no_file_of_the_training_machine():
    spec = {"type": "network", "encoders": {"image": {"type": "resnet", "pretrained": "/there.safetensors"}}, "trunk": {"type": "mlp"}}
    assert without_pretrained(spec)["encoders"]["image"] == {"type": "resnet", "pretrained": None}
    assert spec["encoders"]["image"]["pretrained"] == "/there.safetensors"
