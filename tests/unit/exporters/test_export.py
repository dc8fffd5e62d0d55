import gc
import weakref

import pytest

from deepseek.compression.settings import Int8Settings
from deepseek.data.transforms.text import TextTransform
from deepseek.exporters.contract import original_in, rows
from deepseek.exporters.export import exported
from deepseek.exporters.hard_rows import hard_rows
from deepseek.exporters.onnx import OnnxExporter


class Watched(OnnxExporter):
    """Notes what it makes, without holding it."""

    def candidate(self, bundle):
        made = super().candidate(bundle)
        self.made = [*getattr(self, "made", ()), weakref.ref(made)]
        return made

    def quantizer(self, *args):
        made = super().quantizer(*args)
        self.made = [*self.made, weakref.ref(made)]
        return made


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_while_an_export_waits_no_loaded_network_waits_with_it(precision, tmp_path):
    exporter = Watched(precision=precision)
    with exported(original_in(tmp_path), exporter, tmp_path, int8=Int8Settings(max_drop=1.0, method="static")) as made:
        gc.collect()
        assert [one() for one in exporter.made] == [None] * (3 if precision == "int8" else 1)
        assert made.bundle.path.is_dir()
        assert len([path for path in tmp_path.iterdir() if path.name.startswith(".export-")]) == 1
    assert not made.bundle.path.exists()


def test_the_longest_text_fills_what_the_tokenizer_keeps(tmp_path):
    predictor = original_in(tmp_path).predictor
    cases = dict(hard_rows(rows().slice(0, 8), predictor.schema, predictor.columns))
    (transform,) = [one for one in predictor.preparation.transforms if isinstance(one, TextTransform)]
    assert predictor.arrays(cases["the longest text"])["text"].shape[1] == transform.max_tokens == 1024
