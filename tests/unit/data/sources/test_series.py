"""Series of DICOM: a folder is one volume, wherever volumes are listed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.data.test_volumes import series

from deepseek.data.sources import open_source
from deepseek.data.sources.listed_files import ListedFiles
from deepseek.data.transforms import group_fields
from deepseek.data.volumes import read_volume, write_volume
from deepseek.errors import DataError
from deepseek.fields import Field, Kind, Schema
from deepseek.inference.tables import open_rows

pytest.importorskip("nibabel")
pytest.importorskip("pydicom")
VALUES = np.random.default_rng(0).integers(0, 900, (3, 4, 5)).astype(np.int16)


def test_a_folder_of_slices_is_one_volume(tmp_path):
    for name in ("1.2.840.7", "second"):
        series(tmp_path / name, VALUES, order=[0, 1, 2])
    (tmp_path / "second" / "notes.txt").write_text("made in spring")
    write_volume(tmp_path / "third.nii.gz", VALUES)
    listed = ListedFiles(str(tmp_path), column="scan", kind="volume")
    assert listed.names == ["1.2.840.7", "second", "third.nii.gz"]
    assert ListedFiles(str(tmp_path / "second"), column="scan", kind="volume").names == [str(tmp_path / "second")]
    (batch,) = listed.read()
    (transform,) = group_fields(Schema((Field("scan", Kind.VOLUME),), ()), {}).build()
    assert transform.sizes(batch) == [(3, 4, 5)] * 3
    before = listed.fingerprint()
    (tmp_path / "second" / "13.dcm").write_bytes((tmp_path / "1.2.840.7" / "13.dcm").read_bytes())
    assert listed.fingerprint() != before


def test_a_folder_of_slices_has_a_mask_of_its_name(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name in ("one", "two"):
        series(tmp_path / "images" / name, VALUES, order=[0, 1, 2])
    write_volume(tmp_path / "masks" / "one.nii.gz", (VALUES > 400).astype(np.uint8))
    source = open_source({"type": "masks", "path": str(tmp_path)})
    assert pa.Table.from_batches(source.read()).to_pylist() == [{"image": "images/one", "mask": "masks/one.nii.gz"}]
    assert [row["raw"] for batch in source.rejects() for row in batch.to_pylist()] == ["images/two"]
    assert len(source.files()) == 4
    assert source.fingerprint()


def test_a_damaged_slice_is_named(tmp_path):
    series(tmp_path / "scan", VALUES, order=[0, 1, 2])
    (tmp_path / "scan" / "13.dcm").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"scan' cannot be read: 13\.dcm is no DICOM"):
        read_volume(tmp_path / "scan")


@pytest.mark.parametrize(("kind", "name"), [(Kind.IMAGE, "absent.png"), (Kind.VOLUME, "absent.nii.gz"), (Kind.AUDIO, "absent.wav")])
def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path, kind, name):
    schema = Schema((Field("given", kind),), ())
    with pytest.raises(DataError, match=f"there is no file .*{name}"):
        open_rows(str(tmp_path / name), schema, ["given"])
