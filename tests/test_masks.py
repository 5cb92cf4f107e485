"""Reading masks: formats, geometry, units, and files that hold no mask."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_transfer.errors import DataError
from nnunet_transfer.evaluation.masks import Volume, geometry_problem, read_mask
from tests.mask_files import write_mask


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_formats_give_the_same_array_and_geometry(ending: str, tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    reference = read_mask(write_mask(array, tmp_path / "a.nii.gz"))
    volume = read_mask(write_mask(array, tmp_path / f"b{ending}"))
    assert np.array_equal(volume.array, array)
    assert volume.spacing == pytest.approx((3.0, 0.9, 0.8))
    assert volume.affine == pytest.approx(reference.affine, abs=1e-5)
    assert geometry_problem(reference, volume) is None


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 3, 3), 0.5, np.float32), "fractions"),
        (np.full((3, 3, 3), np.nan, np.float32), "NaN"),
        (np.full((3, 3, 3), -1, np.int16), "labels from -1"),
        (np.zeros((3, 3, 3, 2), np.uint8), "shape"),
    ],
)
def test_what_is_no_mask_is_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=message):
        read_mask(tmp_path / "a.nii.gz")


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), 2, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_mask(tmp_path / "a.nii.gz").array.max() == 2


def test_a_flipped_direction_is_noticed_though_the_shape_agrees() -> None:
    a = Volume(np.zeros((4, 4, 4)), (1, 1, 1), np.eye(4))
    b = Volume(np.zeros((4, 4, 4)), (1, 1, 1), np.diag([-1.0, 1, 1, 1]))
    rounded = Volume(np.zeros((4, 4, 4)), (1, 1, 1), np.eye(4) + 1e-6)
    assert "direction" in (geometry_problem(a, b) or "")
    assert geometry_problem(a, rounded) is None


def test_pictures_of_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (0, 1)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="has 2 pages; convert it"):
        read_mask(tmp_path / "a.tif")


def test_units_of_the_header_count_and_voxels_without_size_are_refused(tmp_path: Path) -> None:
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    for unit, size in (("mm", 1.0), ("micron", 1000.0), ("meter", 0.001), ("unknown", 1.0)):
        image = nib.Nifti1Image(mask, np.diag([size, size, size, 1.0]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / f"{unit}.nii.gz")
        volume = read_mask(tmp_path / f"{unit}.nii.gz")
        assert volume.spacing == pytest.approx((1.0, 1.0, 1.0))
        itk = sitk.ReadImage(str(tmp_path / f"{unit}.nii.gz"))
        assert volume.spacing == pytest.approx(itk.GetSpacing())
    image = nib.Nifti1Image(mask, np.eye(4))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "metres.nii.gz")
    with pytest.raises(DataError, match=r"voxels of 1000 x 1000 x 1000 mm in its header"):
        read_mask(tmp_path / "metres.nii.gz")
    header = nib.Nifti1Header()
    header.set_data_shape(mask.shape)
    header["sform_code"] = 1  # a transform of zeros
    nib.save(nib.Nifti1Image(mask, None, header), tmp_path / "flat.nii.gz")
    with pytest.raises(DataError, match=r"voxels of 0 x 0 x 0 mm in its header"):
        read_mask(tmp_path / "flat.nii.gz")
