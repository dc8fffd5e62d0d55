"""Volumes on disk, against the libraries that write them."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from deepseek.data.volumes import (
    Volume,
    centred,
    read_head,
    read_head_bytes,
    read_volume,
    read_volume_bytes,
    resampled,
    stem_of,
    write_volume,
)
from deepseek.errors import DataError

nibabel = pytest.importorskip("nibabel")


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 900, (3, 4, 5)).astype(np.int16)  # depth, height, width


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_nifti_is_read_slices_first_with_the_distance_of_voxels(tmp_path, values, name):
    affine = np.array([[0.5, 0, 0, -7], [0, 2.0, 0, 3], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), tmp_path / name)
    found = read_volume(tmp_path / name)
    np.testing.assert_array_equal(found.values, values)
    assert found.spacing == (3.0, 2.0, 0.5)
    np.testing.assert_array_equal(found.affine, affine)
    assert read_head(tmp_path / name).size == (3, 4, 5)


def test_slope_and_intercept_of_a_header_are_applied(tmp_path, values):
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(2.0, -1000.0)
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0).astype(np.float64) * 2 - 1000, np.eye(4), image.header)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "scan.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nii").values, values * 2.0 - 1000, atol=1e-1)


def test_bytes_are_read_packed_or_not(tmp_path, values):
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / "scan.nii")
    content = (tmp_path / "scan.nii").read_bytes()
    for given in (content, gzip.compress(content)):
        np.testing.assert_array_equal(read_volume_bytes(given).values, values)


def test_a_mask_is_written_in_the_place_of_its_volume(tmp_path, values):
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    write_volume(tmp_path / "mask.nii.gz", (values > 400).astype(np.uint8), like=Volume(values, (3.0, 2.0, 0.5), affine))
    found = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(found.affine, affine)
    np.testing.assert_array_equal(np.asarray(found.dataobj).transpose(2, 1, 0), values > 400)


@pytest.mark.parametrize("content", [b"", b"no volume at all", gzip.compress(b"short", mtime=0)[:-3]], ids=["empty", "text", "cut off"])
def test_what_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "scan.nii.gz").write_bytes(content)
    for read in (read_volume, read_head):
        with pytest.raises(DataError, match=r"scan\.nii\.gz' cannot be read"):
            read(tmp_path / "scan.nii.gz")
    with pytest.raises(DataError, match="cannot be read as a volume"):
        read_volume_bytes(content)
    with pytest.raises(DataError, match="absent"):
        read_volume(tmp_path / "absent.nii")


def series(folder, values, *, order, uid="1.2.3", **more):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir(exist_ok=True)
    for number in order:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, uid
        one.Rows, one.Columns = values.shape[1:]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.PixelSpacing = [0.7, 0.6]
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2.5 * number], [1, 0, 0, 0, 1, 0]
        one.RescaleSlope, one.RescaleIntercept = 2, -1024
        one.PixelData = values[number].astype(np.int16).tobytes()
        for name, value in more.items():
            setattr(one, name, value)
        pydicom.dcmwrite(folder / f"{order.index(number)}{uid[-1]}.dcm", one, enforce_file_format=True)


def test_a_series_of_dicom_is_sorted_by_place_and_scaled(tmp_path, values):
    series(tmp_path / "scan", values, order=[2, 0, 1])
    found = read_volume(tmp_path / "scan")
    np.testing.assert_array_equal(found.values, values * 2.0 - 1024)
    assert found.spacing == (2.5, 0.7, 0.6)
    assert read_head(tmp_path / "scan").size == (3, 4, 5)


def test_two_series_in_a_folder_are_refused(tmp_path, values):
    series(tmp_path / "scan", values, order=[0, 1, 2])
    series(tmp_path / "scan", values, order=[0, 1, 2], uid="1.2.4")
    with pytest.raises(DataError, match="2 series"):
        read_volume(tmp_path / "scan")


def test_a_series_lies_where_its_slices_say(tmp_path, values):
    series(tmp_path / "scan", values, order=[2, 0, 1])
    affine = read_volume(tmp_path / "scan").affine
    np.testing.assert_allclose(affine, np.diag([-0.6, -0.7, 2.5, 1.0]))
    write_volume(tmp_path / "mask.nii", np.zeros((3, 4, 5), np.uint8), like=read_volume(tmp_path / "scan"))
    np.testing.assert_allclose(nibabel.load(tmp_path / "mask.nii").affine, affine, atol=1e-6)


def test_two_slices_at_one_place_are_refused(tmp_path, values):
    series(tmp_path / "scan", values, order=[0, 1, 2])
    series(tmp_path / "other", values, order=[1])
    (tmp_path / "other" / "03.dcm").rename(tmp_path / "scan" / "03again.dcm")
    with pytest.raises(DataError, match=r"two slices of .* lie at the same place"):
        read_volume(tmp_path / "scan")


def test_slices_in_colours_and_several_volumes_are_refused(tmp_path, values):
    colours = values.repeat(3, axis=2)
    series(tmp_path / "colours", colours, order=[0], SamplesPerPixel=3, PhotometricInterpretation="RGB", Columns=5, PlanarConfiguration=0)
    with pytest.raises(DataError, match="in colours"):
        read_volume(tmp_path / "colours")
    series(tmp_path / "frames", values, order=[0, 1], NumberOfFrames=2, Rows=2)
    with pytest.raises(DataError, match="a volume of several frames"):
        read_volume(tmp_path / "frames")


def test_the_head_of_bytes_says_how_large_they_are(tmp_path, values):
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([0.5, 2.0, 3.0, 1.0])), tmp_path / "scan.nii")
    content = (tmp_path / "scan.nii").read_bytes()
    for given in (content, gzip.compress(content)):
        assert (read_head_bytes(given).size, read_head_bytes(given).spacing) == ((3, 4, 5), (3.0, 2.0, 0.5))
    for wrong in (b"", b"no volume at all", gzip.compress(b"short")):
        with pytest.raises(DataError, match="cannot be read as a volume"):
            read_head_bytes(wrong)


def test_no_more_is_unpacked_than_the_head_announces(tmp_path, values):
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / "scan.nii")
    bomb = gzip.compress((tmp_path / "scan.nii").read_bytes()) + gzip.compress(bytes(1 << 26))
    tracemalloc.start()
    np.testing.assert_array_equal(read_volume_bytes(bomb).values, values)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 24


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "scan").mkdir()
    with pytest.raises(DataError, match="holds no picture of DICOM"):
        read_volume(tmp_path / "scan")


def test_stems():
    assert [stem_of(name) for name in ("a/b.nii.gz", "b.nii", "c.tar.png", "d")] == ["b", "b", "c.tar", "d"]


@pytest.mark.parametrize("size", [(2, 6, 5), (5, 5, 5), (3, 4, 5), (1, 1, 9)])
def test_centred_keeps_the_middle(size):
    values = np.arange(60).reshape(3, 4, 5)
    made = centred(values, size, fill=-1)
    assert made.shape == size
    for there, wanted in zip(values.shape, size, strict=True):
        assert there == wanted or (made == -1).any() or there > wanted
    back = centred(made, values.shape, fill=-1)
    kept = back >= 0
    np.testing.assert_array_equal(back[kept], values[kept])
    assert kept.sum() == np.prod(np.minimum(size, values.shape))


def test_resampling_keeps_a_slope_and_the_classes():
    ramp = np.linspace(0, 1, 40)[:, None] * np.ones((1, 3))
    made = resampled(ramp, (20, 3))
    place = (np.arange(20) + 0.5) * 2 - 0.5
    np.testing.assert_allclose(made[:, 0], place / 39, atol=1e-6)
    mask = np.array([[0, 0, 7, 7], [0, 0, 7, 7]], dtype=np.uint8)
    np.testing.assert_array_equal(resampled(mask, (1, 2), nearest=True), [[0, 7]])
    assert resampled(mask, (4, 8), nearest=True).dtype == np.uint8
    np.testing.assert_array_equal(np.unique(resampled(mask, (5, 9), nearest=True)), [0, 7])
