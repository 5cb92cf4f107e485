"""Grids that differ, oblique and displaced ones: what is repaired, refused or resampled by the command `convert`."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from nnunet_transfer.cli import main
from tests import conversion_trees as trees
from tests.conversion_commands import GOOD, GOOD_SECOND, OUT, case_r2, convert, label, refusal, rows
from tests.conversion_trees import AFFINE, RAS, SHAPE, box, image, write_tree


def shifted(distance: float) -> NDArray[np.float64]:
    """Return the usual affine, moved along x."""
    affine = AFFINE.copy()
    affine[0, 3] += distance
    return affine


def test_a_displaced_label_is_an_error_with_a_hint(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(nnunet_folders, capsys, "hammers", trees.hammers())
    assert "voxels displaced by 34 mm" in error
    assert "--geometry copy-from-image" in error


def test_copied_geometry_is_that_of_the_image_and_recorded(nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "hammers", trees.hammers(), "--geometry", "copy-from-image") == 0
    written = nib.load(nnunet_folders / f"raw/{OUT}/labelsTr/a01.nii.gz")
    np.testing.assert_allclose(written.affine, AFFINE)
    assert "geometry copied from image, was voxels displaced by 34 mm" in rows(nnunet_folders)["a01"]["actions"]


@pytest.mark.parametrize(("distance", "accepted"), [(1e-8, True), (0.009, True), (0.011, False), (1.0, False)])
def test_the_tolerance_is_a_hundredth_of_a_millimetre(distance: float, accepted: bool, nnunet_folders: Path) -> None:
    files = case_r2(1, image(1), (box(), shifted(distance))) | GOOD_SECOND
    assert (convert(nnunet_folders, "atlas_r2", files) == 0) == accepted
    if accepted:
        written = nib.load(nnunet_folders / f"raw/{OUT}/labelsTr/sub-r001_ses-1.nii.gz")
        assert written.affine.tolist() == AFFINE.tolist()


@pytest.mark.parametrize("codes", [(2, 1), (0, 1)])
@pytest.mark.parametrize("moved", ["pre/T1", "pre/FLAIR", "wmh"])
def test_two_transforms_a_micrometre_apart_place_all_files_of_a_case_alike(
    codes: tuple[int, int], moved: str, nnunet_folders: Path
) -> None:
    root = write_tree(trees.wmh2017(), nnunet_folders / "source")
    for path in root.rglob(f"{moved}.nii.gz"):
        copy = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        copy.header.set_qform(shifted(0.001), codes[1])
        copy.header.set_sform(AFFINE, codes[0])
        nib.Nifti1Image(np.asarray(copy.dataobj), None, copy.header).to_filename(path)
    convert_it = ["convert", "wmh2017", str(root), "-d", "4", "--name", "Test", "--channels", "T1", "FLAIR"]
    assert main([*convert_it, "--processes", "1"]) == 0
    for case in rows(nnunet_folders):
        files = sorted((nnunet_folders / "raw" / OUT).glob(f"*/{case}*.nii.gz"))
        read = [sitk.ReadImage(str(file)) for file in files]
        assert len(read) == 3
        assert len({(image.GetOrigin(), image.GetDirection(), image.GetSpacing()) for image in read}) == 1
        assert len({nib.load(file).affine.tobytes() for file in files}) == 1


@pytest.mark.parametrize(
    ("other", "how", "source"),
    [("pre/FLAIR", (), "first image"), ("wmh", ("--geometry", "resample-image"), "label")],
)
def test_the_files_of_a_case_have_one_header(
    other: str, how: tuple[str, ...], source: str, nnunet_folders: Path
) -> None:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    # far less than the tolerance, and more than nnU-Net allows
    longer = AFFINE @ np.diag([1, 1, 1.00002, 1])
    files = {
        name: (data, longer) if name.endswith(f"{other}.nii.gz") else data for name, data in trees.wmh2017().items()
    }
    assert convert(nnunet_folders, "wmh2017", files, "--channels", "T1", "FLAIR", *how) == 0
    folder = nnunet_folders / f"raw/{OUT}"
    images = [str(folder / f"imagesTr/Utrecht_11_{i:04d}.nii.gz") for i in (0, 1)]
    _, properties = SimpleITKIO().read_images(images)
    _, of_label = SimpleITKIO().read_seg(str(folder / "labelsTr/Utrecht_11.nii.gz"))
    np.testing.assert_allclose(properties["spacing"], of_label["spacing"], rtol=1e-6)
    np.testing.assert_allclose([nib.load(path).affine for path in images], [nib.load(images[0]).affine] * 2)
    changed = ["FLAIR.nii.gz"] if source == "first image" else ["T1.nii.gz", "FLAIR.nii.gz"]
    actions = rows(nnunet_folders)["Utrecht_11"]["actions"]
    assert [f"{name}: header of the {source} taken" in actions for name in changed] == [True] * len(changed)
    assert actions.count("taken") == len(changed)


def test_headers_that_differ_by_rounding_are_kept(nnunet_folders: Path) -> None:
    rounded = np.nextafter(AFFINE.astype(np.float32), np.float32(100)).astype(np.float64) * (AFFINE != 0)
    rounded[3] = AFFINE[3]
    assert not np.array_equal(rounded.astype(np.float32), AFFINE.astype(np.float32))
    files = {
        name: (data, rounded) if name.endswith("pre/FLAIR.nii.gz") else data for name, data in trees.wmh2017().items()
    }
    assert convert(nnunet_folders, "wmh2017", files, "--channels", "T1", "FLAIR") == 0
    for i, name in enumerate(("T1", "FLAIR")):
        written = nnunet_folders / f"raw/{OUT}/imagesTr/Utrecht_11_{i:04d}.nii.gz"
        source = nnunet_folders / f"source/wmh/training/Utrecht/11/pre/{name}.nii.gz"
        assert written.read_bytes() == source.read_bytes()


def test_a_label_on_another_grid_is_resampled_if_asked(nnunet_folders: Path) -> None:
    # every second voxel along x: the label's grid has half the voxels, twice as far apart
    coarse = AFFINE @ np.diag([2.0, 1, 1, 1])
    files = case_r2(1, image(1), (box(1, 2, 4)[::2], coarse)) | GOOD_SECOND
    assert convert(nnunet_folders, "atlas_r2", files, "--geometry", "copy-from-image") == 2
    assert convert(nnunet_folders, "atlas_r2", files, "--geometry", "resample-label") == 0
    written = label(nnunet_folders, "sub-r001_ses-1")
    assert written.shape == SHAPE
    assert set(np.unique(written)) == {0, 1}
    assert written[2:5, 2:6, 2:6].all()
    assert "resampled (nearest neighbour), was 6x13x8 voxels" in rows(nnunet_folders)["sub-r001_ses-1"]["actions"]


def test_an_image_on_another_grid_is_resampled_if_asked(nnunet_folders: Path) -> None:
    ramp = np.broadcast_to(np.arange(12.0)[:, None, None], SHAPE).astype(np.float32)
    moved = AFFINE.copy()
    moved[0, 3] -= 2  # the axis points to the left: two voxels further on
    files = case_r2(1, ramp, (box(), moved)) | GOOD_SECOND
    assert convert(nnunet_folders, "atlas_r2", files, "--geometry", "resample-image") == 0
    written = nib.load(nnunet_folders / f"raw/{OUT}/imagesTr/sub-r001_ses-1_0000.nii.gz")
    np.testing.assert_allclose(written.affine, moved)
    np.testing.assert_allclose(written.dataobj[:10, 5, 5], np.arange(2.0, 12), atol=1e-5)
    np.testing.assert_array_equal(label(nnunet_folders, "sub-r001_ses-1"), box())


@pytest.mark.parametrize("voxels", [0, 8, 10])
def test_labelled_voxels_that_an_image_does_not_cover_are_counted(
    voxels: int, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = AFFINE.copy()
    moved[0, 3] -= voxels
    files = case_r2(1, image(1), (box(), moved)) | GOOD_SECOND
    assert convert(nnunet_folders, "atlas_r2", files, "--geometry", "resample-image") == 0
    lost = {0: 0, 8: 9, 10: 27}[voxels]
    said = f"{lost} of 27 labelled voxels lie outside the image" in rows(nnunet_folders)["sub-r001_ses-1"]["actions"]
    told = "labelled voxels lie outside the image, which is 0 there in 1 case" in capsys.readouterr().out
    assert (said, told) == (lost > 0, lost > 0)


@pytest.mark.parametrize(("shear", "accepted"), [(1e-7, True), (1e-3, True), (5e-2, False)])
def test_axes_that_are_nearly_at_right_angles_are_repaired(
    shear: float, accepted: bool, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import SimpleITK as sitk

    affine = AFFINE.copy()
    affine[1, 0] = shear
    files = case_r2(1, (image(1), affine), (box(), affine)) | GOOD_SECOND
    if not accepted:
        assert "aren't at right angles" in refusal(nnunet_folders, capsys, "atlas_r2", files)
        return
    assert convert(nnunet_folders, "atlas_r2", files) == 0
    read = sitk.ReadImage(str(nnunet_folders / f"raw/{OUT}/imagesTr/sub-r001_ses-1_0000.nii.gz"))
    directions = np.array(read.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-6)
    assert ("made orthonormal" in rows(nnunet_folders)["sub-r001_ses-1"]["actions"]) == (shear > 1e-5)


def test_a_quaternion_that_is_slightly_too_long_is_read(nnunet_folders: Path) -> None:
    root = write_tree(trees.miccai2012(), nnunet_folders / "source")
    path = root / "MICCAI-2012-Multi-Atlas-Challenge-Data/training-images/1000_3.nii.gz"
    stored = nib.load(path)
    stored.header["sform_code"] = 0
    stored.header["qform_code"] = 1
    # such a length makes nibabel refuse the header
    stored.header["quatern_b"], stored.header["quatern_c"], stored.header["quatern_d"] = 0, 0, 1 + 5e-7
    header = stored.header.copy()
    header["vox_offset"] = 352
    data = np.asarray(stored.dataobj)
    with open(path.with_suffix(""), "wb") as file:
        file.write(header.binaryblock + bytes(4) + data.tobytes(order="F"))
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(path.with_suffix(""))
    path.unlink()
    labels = path.parents[1] / "training-labels/1000_3_glm.nii.gz"
    trees.save(np.asarray(nib.load(labels).dataobj), labels, np.diag([-1.0, -1, 2, 1]) + shift_of(header))
    assert main(["convert", "miccai2012", str(root), "-d", "4", "--name", "Test", "--processes", "1"]) == 0
    written = nib.load(nnunet_folders / f"raw/{OUT}/imagesTr/1000_3_0000.nii.gz")
    np.testing.assert_array_equal(written.dataobj, data)


@pytest.mark.parametrize("degrees", [0.0, 0.2, 0.7, 1.1])
def test_a_small_tilt_beside_half_a_turn_stays(degrees: float, nnunet_folders: Path) -> None:
    import SimpleITK as sitk

    root = write_tree(GOOD, nnunet_folders / "source")
    turn, tilted = np.radians(degrees), AFFINE.copy()
    tilted[:2, :2] = -np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for path in root.rglob("sub-r001*.nii.gz"):
        if path.name.startswith("."):
            continue
        stored = nib.load(path)
        header = stored.header.copy()
        header.set_qform(tilted, code=1)
        header.set_sform(None, code=0)
        nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), None, header), path)
    source = sitk.ReadImage(str(next(root.rglob("sub-r001*T1w.nii.gz"))))
    assert convert(nnunet_folders, "atlas_r2", {}) == 0
    for name in ("imagesTr/sub-r001_ses-1_0000.nii.gz", "labelsTr/sub-r001_ses-1.nii.gz"):
        written = sitk.ReadImage(str(nnunet_folders / f"raw/{OUT}/{name}"))
        np.testing.assert_allclose(written.GetDirection(), source.GetDirection(), atol=1e-5)
    assert "new header" not in rows(nnunet_folders)["sub-r001_ses-1"]["actions"]


def shift_of(header: Any) -> NDArray[np.float64]:
    """Return the header's offset as the last column of a matrix."""
    matrix = np.zeros((4, 4))
    matrix[:3, 3] = header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]
    return matrix


@pytest.mark.parametrize("offset", [0, 100, -1, np.nan, 1e30])
def test_voxels_that_start_nowhere_are_refused(
    offset: float, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gzip

    root = write_tree(GOOD, nnunet_folders / "source")
    path = next(root.rglob("sub-r001*T1w.nii.gz"))
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[108:112] = np.float32(offset).tobytes()
    path.write_bytes(gzip.compress(plain))
    assert "damaged header" in refusal(nnunet_folders, capsys, "atlas_r2", {})


def test_readers_that_prefer_either_transform_agree(nnunet_folders: Path) -> None:
    import SimpleITK as sitk

    root = write_tree(GOOD, nnunet_folders / "source")
    path = next(root.rglob("sub-r001*T1w.nii.gz"))
    stored = nib.load(path)
    stored.set_qform(shifted(25), code=1)
    nib.save(stored, path)
    assert main(["convert", "atlas_r2", str(root), "-d", "4", "--name", "Test", "--processes", "1"]) == 0
    written = nnunet_folders / f"raw/{OUT}/imagesTr/sub-r001_ses-1_0000.nii.gz"
    np.testing.assert_allclose(sitk.ReadImage(str(written)).GetOrigin(), (-40, -30, -20))
    np.testing.assert_allclose(nib.load(written).affine, AFFINE)


def test_mixed_orientations_are_reported_and_turned_if_asked(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(nnunet_folders, "atlas_r3", trees.atlas_r3()) == 0
    assert "mixed orientations (LPS 2, RAS 1)" in capsys.readouterr().out
    assert convert(nnunet_folders, "atlas_r3", trees.atlas_r3(), "--reorient", "--overwrite") == 0
    assert "mixed orientations" not in capsys.readouterr().out
    table = rows(nnunet_folders)
    assert {row["written_orientation"] for row in table.values()} == {"RAS"}
    assert {row["orientation"] for row in table.values()} == {"LPS", "RAS"}
    np.testing.assert_array_equal(label(nnunet_folders, "sub-r000s001_ses-1"), box()[::-1, ::-1])


def test_orientation_of_the_fixture_is_what_the_tests_assume() -> None:
    assert "".join(nib.aff2axcodes(AFFINE)) == "LPS"
    assert "".join(nib.aff2axcodes(RAS)) == "RAS"


def test_warnings_that_differ_by_numbers_are_one_line(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tree(case_r2(1, image(1), box()) | case_r2(2, image(2), box()), nnunet_folders / "source")
    for number, path in enumerate(sorted(root.rglob("sub-*_T1w.nii.gz")), start=1):
        volume = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        volume.header["pixdim"][1] = 1 + number / 10
        path.write_bytes(gzip.compress(volume.to_bytes()))
    assert main(["convert", "atlas_r2", str(root), "-d", "4", "--processes", "1"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "beside a transform" in line]
    assert line == (
        "note: header has voxels of 1.1 x 1 x 2 mm beside a transform of 1 x 1 x 2 mm: transform taken in 2 cases "
        "(the numbers are the first one's): sub-r001_ses-1, sub-r002_ses-1"
    )
