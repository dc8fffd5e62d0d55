"""Every built-in kind of target keeps the public contract."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from deepseek.components import FAMILIES
from deepseek.data.targets import build_target
from deepseek.data.targets.contract import TargetContract
from deepseek.data.transforms.image import ImageTransform
from deepseek.data.transforms.volume import VolumeTransform
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


def test_every_builtin_kind_is_in_this_suite():
    assert {name.split(",")[0] for name in PLAIN} | {"mask"} == set(FAMILIES["target"][1])
