"""Pictures of cases: the same for every orientation in which a scan is stored, and true to the masks."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from nnunet_transfer.comparison.orientation import Plane, bright, describe, planes, sample
from nnunet_transfer.comparison.pictures import ELSEWHERE, OTHER_SHAPE, UNREADABLE, case_panels, contour_path
from nnunet_transfer.evaluation.masks import Volume, read_mask, read_volume

#: mm along right, anterior, superior
SPACING = np.array([1.0, 1.25, 2.0])
SHAPE = (60, 64, 40)
ORIENTATIONS = ("LPS", "LIA", "PSR", "RAS", "LAS")


def phantom() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A head with a nose, a neck below and a bright marker on its left; a lesion on the left. Stored as RAS."""
    x, y, z = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True))
    x, y, z = np.meshgrid(x, y, z, indexing="ij")
    head = 100.0 * ((x / 22) ** 2 + (y / 28) ** 2 + (z / 28) ** 2 < 1)
    head[(abs(x) < 4) & (y > 26) & (y < 36) & (abs(z) < 6)] = 100  # the nose
    head[(abs(x) < 8) & (abs(y) < 8) & (z < -24)] = 100  # the neck
    head[(x < -23) & (x > -27) & (abs(y) < 4) & (abs(z) < 6)] = 250  # a capsule at the left ear
    lesion = ((x + 6) / 5) ** 2 + ((y + 5) / 6) ** 2 + ((z - 4) / 7) ** 2 < 1
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-30, -40, -35)
    return nib.Nifti1Image(head.astype(np.float32), affine), nib.Nifti1Image(lesion.astype(np.uint8), affine)


def save_as(image: nib.Nifti1Image, axes: str, path: Path) -> Path:
    """Store an image with other axes; where its voxels lie stays the same."""
    wanted = nib.orientations.axcodes2ornt(axes)
    change = nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
    nib.save(image.as_reoriented(change), path)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == axes
    return path


def tilted(image: nib.Nifti1Image, degrees: float) -> nib.Nifti1Image:
    """The same voxels of a head that was turned about its long axis."""
    a = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine)


def cut(image: Volume, mask: Volume) -> dict[str, tuple[Plane, np.ndarray, np.ndarray]]:
    chosen = planes(mask, mask.array > 0, bright(image)[0])
    return {p.view.name: (p, sample(image, p, smooth=True), sample(mask, p, smooth=False)) for p in chosen}


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_pictures_do_not_depend_on_how_a_scan_is_stored(axes: str, tmp_path: Path) -> None:
    head, lesion = phantom()
    shown = cut(
        read_volume(save_as(head, axes, tmp_path / "image.nii.gz")),
        read_mask(save_as(lesion, axes, tmp_path / "mask.nii.gz")),
    )
    plain = cut(
        read_volume(save_as(head, "RAS", tmp_path / "plain.nii")), read_mask(save_as(lesion, "RAS", tmp_path / "m.nii"))
    )
    assert list(shown) == ["axial", "coronal", "sagittal"]
    for name, (plane, image, mask) in shown.items():
        assert plane.shape == plain[name][0].shape
        assert [plane.position, *plane.corner] == pytest.approx([plain[name][0].position, *plain[name][0].corner])
        np.testing.assert_allclose(image, plain[name][1], atol=1e-3)
        np.testing.assert_array_equal(mask, plain[name][2])
    # radiological convention: the patient's left is on the right of the picture, the nose is up
    _, image, mask = shown["axial"]
    columns = np.nonzero(image > 200)[1]
    assert columns.min() > image.shape[1] * 0.8
    nose = np.nonzero(image[: image.shape[0] // 8] > 50)[1]
    assert abs(nose.mean() - image.shape[1] / 2) < 3
    assert np.nonzero(mask)[1].mean() > image.shape[1] / 2
    # the neck is down in coronal and sagittal pictures, the nose on the left in sagittal ones
    for name in ("coronal", "sagittal"):
        plane, picture = shown[name][0], shown[name][1] > 50
        lowest = picture[np.nonzero(picture.any(axis=1))[0][-1]]
        assert lowest.sum() * plane.pixel == pytest.approx(16, abs=3)
    assert np.nonzero(shown["coronal"][2])[1].mean() > shown["coronal"][2].shape[1] / 2
    assert np.nonzero(shown["sagittal"][2])[1].mean() > shown["sagittal"][2].shape[1] / 2  # behind the middle


def test_oblique_scans_are_shown_in_the_patients_frame(tmp_path: Path) -> None:
    head, lesion = (tilted(image, 25) for image in phantom())
    nib.save(head, tmp_path / "image.nii")
    nib.save(lesion, tmp_path / "mask.nii")
    plane, image, _ = cut(read_volume(tmp_path / "image.nii"), read_mask(tmp_path / "mask.nii"))["axial"]
    # the head itself is turned, to its left when seen from above; pixels are square
    centre = np.argwhere(image > 50).mean(axis=0)
    capsule = np.argwhere(image > 200).mean(axis=0) - centre
    # from the phantom's left, at (-1, 0), by 25 degrees in the patient's frame
    assert np.rad2deg(np.arctan2(-capsule[0], capsule[1])) == pytest.approx(-25, abs=4)
    # half the width is that of the ellipse seen from there; no voxel is stretched
    assert np.hypot(*capsule) * plane.pixel == pytest.approx(25, abs=3)


def test_the_slice_with_most_of_the_lesion_is_shown_with_its_position(tmp_path: Path) -> None:
    _, lesion = phantom()
    volume = read_mask(save_as(lesion, "PSR", tmp_path / "mask.nii"))
    array = np.asarray(lesion.dataobj)
    for plane in planes(volume, volume.array > 0):
        axis = plane.view.normal
        areas = array.sum(axis=tuple(i for i in range(3) if i != axis))
        index = (plane.position - lesion.affine[axis, 3]) / SPACING[axis]
        assert areas[round(index)] == areas.max()
        assert sample(volume, plane, smooth=False).sum() * plane.pixel**2 == pytest.approx(
            areas.max() * np.prod(np.delete(SPACING, axis)), rel=0.05
        )
        assert (
            describe(plane)
            == f"{'xyz'[axis]} = {plane.position:+.0f} mm {'LPI'[axis] if plane.position < 0 else 'RAS'[axis]}"
        )


def test_contours_enclose_what_is_labelled() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 8:30] = 1
    labels[10:14, 12:20] = 0  # a hole
    labels[22:27, 1:4] = 2
    path = contour_path(labels, pixel=1.0)
    inside = np.zeros((300, 400), int)
    for part in path.removesuffix("Z").split("Z"):
        points = np.array([list(map(float, pair.split())) for pair in part[1:].split("L")])[:, ::-1]
        inside += polygon2mask(inside.shape, points * 10 - 0.5)
    enlarged = np.kron(labels > 0, np.ones((10, 10)))
    # find_contours cuts corners by half a pixel
    assert (inside % 2 != enlarged).mean() < 0.005
    assert contour_path(np.zeros((5, 5)), 1.0) == ""


def test_panels_hold_the_image_once_and_say_what_they_show(tmp_path: Path) -> None:
    head, lesion = phantom()
    image, mask = (save_as(i, "LIA", tmp_path / f"{n}.nii.gz") for n, i in (("image", head), ("mask", lesion)))
    panels, oriented = case_panels("c1", mask, image, {"first": mask, "a <b> & c": mask})
    assert oriented
    assert [panel.title for panel in panels] == ["Image", "first", "a <b> & c"]
    page = "".join(panel.svg for panel in panels)
    assert page.count("data:image/jpeg;base64,") == 3
    root = ElementTree.fromstring(f"<svg>{page}</svg>")  # well-formed, names escaped
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids)) == 6
    assert {node.get("href") for node in root.iter("use")} == {f"#{i}" for i in ids}
    texts = [node.text for node in root.iter("text")]
    assert texts.count("R") == texts.count("L") == 2  # axial and coronal; contours refer to them
    # one length of the bars, and letters in proportion to the height, in which all slices are alike
    assert {text for text in texts if re.fullmatch(r"\d+ mm", text or "")} == {"10 mm"}
    for svg in root:
        height = float(svg.get("viewBox", "").split()[3])
        sizes = {text.text: float(text.get("font-size", 0)) for text in svg.iter("text")}
        assert {size for text, size in sizes.items() if len(text or "") == 1} <= {round(0.055 * height, 1)}
        middle = float(svg.get("viewBox", "").split()[2]) / 2
        assert all(0.5 * len(text) * size < middle for text, size in sizes.items() if text and "=" in text)
    labels = [svg.get("aria-label") or "" for svg in root]
    areas = re.findall(r"reference ([\d.]+) cm², prediction ([\d.]+) cm², of which ([\d.]+) cm² agree", "".join(labels))
    assert len(areas) == 6
    assert all(a == b == c for a, b, c in areas)


def test_pictures_without_geometry_are_shown_as_they_are(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 20:28] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    volume = read_mask(tmp_path / "mask.png")
    (plane,) = planes(volume, volume.array > 0)
    np.testing.assert_array_equal(sample(volume, plane, smooth=False), mask)
    panels, oriented = case_panels("c", tmp_path / "mask.png", None, {"arm": tmp_path / "mask.png"})
    assert not oriented
    assert not re.search(r">[RLAPSI]</text>", panels[0].svg)


@pytest.mark.parametrize("ending", [".png", ".PNG", ".bmp", ".tif"])
def test_pictures_in_colour_are_drawn_by_their_luminance(ending: str, tmp_path: Path) -> None:
    mask, colours = np.zeros((20, 30), np.uint8), np.zeros((20, 30, 3), np.uint8)
    mask[2:6, 20:28], colours[:, 15:] = 1, (0, 255, 0)
    for name, array in (("mask", mask), ("image", colours)):
        Image.fromarray(array).save(tmp_path / f"{name}{ending}")
    files = [tmp_path / f"{name}{ending}" for name in ("mask", "image")]
    panels, _ = case_panels("c", *files, {"arm": files[0]})
    assert panels[0].note == ""
    shown = drawn_pixels(panels[0].svg)
    # cropped to a few pixels around the bright half
    assert shown[:, :3].max() < 30 < 220 < shown[:, -13:].min()


def test_pictures_of_16_bits_keep_their_range(tmp_path: Path) -> None:
    grey = np.repeat(np.linspace(300, 60000, 30)[None], 20, axis=0).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "image.png")
    Image.fromarray(np.eye(20, 30, dtype=np.uint8)).save(tmp_path / "mask.png")
    panels, _ = case_panels("c", tmp_path / "mask.png", tmp_path / "image.png", {"arm": tmp_path / "mask.png"})
    shown = drawn_pixels(panels[0].svg).mean(axis=0)
    assert shown[2] < 60 < 100 < shown[15] < 160 < 200 < shown[-2]


def drawn_pixels(svg: str) -> np.ndarray:
    """Return the grey values of the first image in a drawing."""
    (encoded,) = re.findall('data:image/jpeg;base64,([^"]+)"', svg)[:1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), float)


def test_without_a_readable_image_of_its_shape_a_case_is_drawn_and_says_so(tmp_path: Path) -> None:
    head, lesion = phantom()
    for name, image in (("mask", lesion), ("small", nib.Nifti1Image(np.ones((3, 4, 5)), head.affine))):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "mask.nii.gz").read_bytes()[:100])
    (tmp_path / "cut.png").write_bytes(b"no picture")
    for file, note in (("small.nii.gz", OTHER_SHAPE), ("cut.nii.gz", UNREADABLE), ("cut.png", UNREADABLE)):
        panels, _ = case_panels("c", tmp_path / "mask.nii.gz", tmp_path / file, {"arm": tmp_path / "mask.nii.gz"})
        assert [panel.note for panel in panels] == [note, ""]
        assert panels[1].svg.count('class="pred"') == 3


def test_an_empty_reference_shows_the_false_positives(tmp_path: Path) -> None:
    _, lesion = phantom()
    empty = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), lesion.affine)
    nib.save(empty, tmp_path / "empty.nii")
    nib.save(lesion, tmp_path / "lesion.nii")
    panels, _ = case_panels("c", tmp_path / "empty.nii", None, {"arm": tmp_path / "lesion.nii"})
    assert panels[1].svg.count('class="pred"') == 3
    assert 'class="ref"' not in panels[1].svg


def test_a_prediction_that_no_slice_crosses_is_told_of(tmp_path: Path) -> None:
    _, lesion = phantom()
    inside = np.asarray(lesion.dataobj)
    masks = {"far": np.zeros_like(inside), "none": np.zeros_like(inside), "true": inside}
    masks["far"][2:5, 2:5, 2:5] = 1
    for name, mask in masks.items():
        nib.save(nib.Nifti1Image(mask, lesion.affine), tmp_path / f"{name}.nii")
    files = {name: tmp_path / f"{name}.nii" for name in masks}
    panels, _ = case_panels("c", files["true"], None, files)
    assert {panel.title: panel.note for panel in panels[1:]} == {"far": ELSEWHERE, "none": "", "true": ""}
    assert 'class="pred"' not in panels[1].svg
