"""The public suite, on every built-in detector."""

from deepseek.components import FAMILIES
from deepseek.registry import family
from deepseek.statistics.contract import DetectorContract

COVERED = {"adwin", "ddm", "page_hinkley"}


def test_every_built_in_detector_is_covered():
    assert set(FAMILIES["detector"][1]) == COVERED


class TestAdwin(DetectorContract):
    def make(self):
        return family("detector").build("adwin")


class TestDdm(DetectorContract):
    def make(self):
        return family("detector").build("ddm")


class TestPageHinkley(DetectorContract):
    def make(self):
        return family("detector").build("page_hinkley")
