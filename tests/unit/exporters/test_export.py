import gc
import weakref

import pytest

from deepseek.compression.settings import Int8Settings
from deepseek.exporters.contract import original_in
from deepseek.exporters.export import exported
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
