"""Every built-in kind of target keeps the public contract."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from deepseek.components import FAMILIES
from deepseek.data.targets import build_target
from deepseek.data.targets.contract import TargetContract
from deepseek.data.transforms.image import ImageTransform
from deepseek.data.transforms.tokens import TokensTransform
from deepseek.data.transforms.volume import VolumeTransform
from deepseek.data.transforms.words import WordsTransform
from deepseek.fields import Field, Kind

PLAIN = {
    "binary": ("binary", {"y": ["no", "yes", None, "no", "yes"]}),
    "classes": ("classes", {"y": [3, 7, 5, 3, None, 5]}),
    "labels": ({"type": "labels", "separator": ";"}, {"y": ["red; green", "", "blue", None, "red"]}),
    "labels, flags": ("labels", {"a": [0, 1, 1, 0], "b": [1, 1, 0, 0]}),
    "values": ("values", {"y": [1.5, -2.0, None, 8.0, 0.25]}),
    "values, two": ("values", {"a": [1.0, 2.0, 4.0, 8.0], "b": [3, 1, 4, 1]}),
}


@pytest.mark.parametrize("case", PLAIN)
class TestPlain(TargetContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.spec, self.columns = PLAIN[case]

    def build(self):
        return build_target(self.spec, [Field(name, Kind.CATEGORY) for name in self.columns])

    def training(self):
        return pa.record_batch(self.columns)


class TestMasks(TargetContract):
    size = (6, 5)

    def transform(self):
        return ImageTransform((Field("picture", Kind.IMAGE),), size=(8, 4), fit="pad")

    def build(self):
        return build_target({"type": "mask", "ignore": 9}, [Field("mask", Kind.MASK)])

    def training(self):
        random = np.random.default_rng(0)
        masks = random.choice([0, 4, 9, 200], size=(5, *self.size)).astype(np.uint8)
        pictures = random.integers(0, 256, (5, *self.size)).astype(self.dtype)
        return pa.record_batch(
            {name: pa.FixedShapeTensorArray.from_numpy_ndarray(values) for name, values in (("picture", pictures), ("mask", masks))}
        )

    dtype = np.uint8

    def transforms(self):
        transform = self.transform()
        transform.observe(self.training())
        transform.finish()
        return [transform]


class TestMasksOfVolumes(TestMasks):
    size = (3, 6, 5)
    dtype = np.float32

    def transform(self):
        return VolumeTransform((Field("picture", Kind.VOLUME),), size=(4, 5, 5))


class TestBoxes(TargetContract):
    def build(self):
        return build_target("boxes", [Field("boxes", Kind.BOXES)])

    def training(self):
        pictures = np.random.default_rng(0).integers(0, 256, (5, 6, 8)).astype(np.uint8)
        edges = [[(0, 0, 4, 3, "cat")], [], [(1, 1, 8, 6, "dog"), (2, 0, 3, 5, "cat")], None, [(0, 2, 7, 4, "dog")]]
        names = ("left", "top", "right", "bottom", "label")
        boxes = [None if row is None else [dict(zip(names, box, strict=True)) for box in row] for row in edges]
        kind = pa.list_(pa.struct([*((name, pa.float64()) for name in names[:4]), ("label", pa.string())]))
        return pa.record_batch({"picture": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures), "boxes": pa.array(boxes, kind)})

    def transforms(self):
        transform = ImageTransform((Field("picture", Kind.IMAGE),), size=(12, 16))
        transform.observe(self.training())
        transform.finish()
        return [transform]


class TestTags(TargetContract):
    def build(self):
        return build_target("tags", [Field("tags", Kind.TAGS)])

    def training(self):
        words = [["Ada", "Smith", "wrote"], ["Rome"], ["x"], None, ["no", "one"]]
        tags = [["B-PER", "I-PER", "O"], ["B-LOC"], ["O"], None, ["O", "O"]]
        kind = pa.list_(pa.string())
        return pa.record_batch({"words": pa.array(words, kind), "tags": pa.array(tags, kind)})

    def transforms(self):
        transform = WordsTransform((Field(self.training().schema.names[0], Kind.TAGS),), min_count=1)
        transform.observe(self.training())
        transform.finish()
        return [transform]


class TestSpans(TestTags):
    def training(self):
        texts = ["Ada Smith wrote", "Rome", "x", None, "no one"]
        tags = [[{"start": 0, "end": 9, "label": "PER"}], [{"start": 0, "end": 4, "label": "LOC"}], [], None, []]
        kind = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))
        return pa.record_batch({"text": texts, "tags": pa.array(tags, kind)})


class TestTokens(TargetContract):
    def build(self):
        return build_target("tokens", [])

    def training(self):
        return pa.record_batch({"text": ["to be", "or", "not", "to be"]})

    def transforms(self):
        transform = TokensTransform((Field("text", Kind.TEXT),))
        transform.observe(self.training())
        transform.finish()
        return [transform]


class TestFeatures(TestTokens):
    def build(self):
        return build_target("features", [])


def test_every_builtin_kind_is_in_this_suite():
    assert {name.split(",")[0] for name in PLAIN} | {"mask", "boxes", "tags", "tokens", "features"} == set(FAMILIES["target"][1])
