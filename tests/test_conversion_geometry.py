"""Voxels and their places survive conversion, whatever orientation, spacing and dtype; read back by another library."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from nnunet_transfer.conversion import geometry, labels
from nnunet_transfer.conversion.case_volumes import convert_volumes
from nnunet_transfer.conversion.description import LESION, Case, LabelRule
from nnunet_transfer.conversion.job import Job
from nnunet_transfer.conversion.label_resampling import resample_nearest
from nnunet_transfer.conversion.spatial_images import read_image, write_image
from nnunet_transfer.errors import DataError
from tests.conversion_trees import save

LPS_TO_RAS = np.diag([-1.0, -1, 1])
ORIENTATIONS = [
    "".join(sides[i] for i in order)
    for order in itertools.permutations(range(3))
    for sides in itertools.product("LR", "PA", "IS")
]


@st.composite
def affines(draw: st.DrawFn) -> NDArray[np.float64]:
    """Draw spacing, axes in any order and direction, an oblique angle, an offset."""
    spacing = [draw(st.floats(0.3, 6)) for _ in range(3)]
    order = draw(st.permutations(range(3)))
    signs = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    angles = [draw(st.sampled_from([0.0, 0.1, -0.3, 0.6])) for _ in range(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ signs @ np.eye(3)[list(order)] * spacing
    matrix[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return matrix


shapes = st.tuples(*[st.integers(2, 7)] * 3)


def places(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return all voxels' values and positions in mm, RAS+, as SimpleITK reads them."""
    read = sitk.ReadImage(str(path))
    index = np.stack(np.meshgrid(*map(np.arange, read.GetSize()), indexing="ij"), -1).reshape(-1, 3)
    directions = np.array(read.GetDirection()).reshape(3, 3) * np.array(read.GetSpacing())
    positions = (index @ directions.T + np.array(read.GetOrigin())) @ LPS_TO_RAS
    return sitk.GetArrayFromImage(read).T.reshape(-1), positions


def expected_places(data: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the same of an array."""
    index = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), -1).reshape(-1, 3)
    return data.reshape(-1), index @ affine[:3, :3].T + affine[:3, 3]


def assert_same_places(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Compare two sets of (value, position), whatever their order."""

    def ordered(values: NDArray[Any], positions: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.lexsort((*np.round(positions, 1).T, values))

    a, b = ordered(*found), ordered(*expected)
    np.testing.assert_array_equal(found[0][a], expected[0][b])
    # equal values may come in another order where positions round differently
    unique = np.unique(expected[0], return_counts=True)[1].max() == 1
    if unique:
        np.testing.assert_allclose(found[1][a], expected[1][b], atol=2e-3)
    else:
        for value in np.unique(expected[0]):
            np.testing.assert_allclose(
                found[1][found[0] == value].mean(axis=0), expected[1][expected[0] == value].mean(axis=0), atol=2e-3
            )


@given(
    affines(),
    shapes,
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"]),
    st.sampled_from(["", "RAS", "LPS", "PIR"]),
    st.sampled_from([".nii.gz", ".nii"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_voxels_and_places_survive(
    affine: NDArray[np.float64], shape: tuple[int, ...], dtype: Any, reorient: str, ending: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    data = rng.permutation(count).reshape(shape).astype(np.float64)
    data = (data % 255 if np.dtype(dtype) == np.uint8 else data).astype(dtype)
    mask = (rng.random(shape) < 0.3) * rng.choice([1.0, 0.9999999776, 254.99])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image_path, mask_path = save(data, folder / f"i{ending}", affine), save(mask, folder / f"m{ending}", affine)
        job = Job(folder, folder, replace(LESION, largest_share=1), reorient=reorient)
        assume(np.ptp(data) > 0)
        found = convert_volumes(Case("c", {"T1": image_path}, ((mask_path,),)), job, "")
        assert_same_places(places(folder / "imagesTr/c_0000.nii.gz"), expected_places(data, affine))
        assert_same_places(places(folder / "labelsTr/c.nii.gz"), expected_places((mask > 0).astype(np.uint8), affine))
    assert found.lesion_ml == pytest.approx(
        (mask > 0).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000, rel=1e-3, abs=1e-4
    )
    assert found.written_orientation == (reorient or found.orientation)


@given(affines(), shapes, st.sampled_from(ORIENTATIONS))
@settings(max_examples=60)
def test_turning_axes_moves_nothing(affine: NDArray[np.float64], shape: tuple[int, ...], target: str) -> None:
    data = np.arange(np.prod(shape)).reshape(shape)
    turned, moved = geometry.reorient(data, affine, target)
    assert geometry.orientation(moved) == target
    assert_same_places(expected_places(turned, moved), expected_places(data, affine))


@given(affines(), affines(), shapes)
def test_the_greatest_displacement_is_that_of_some_voxel(
    a: NDArray[np.float64], b: NDArray[np.float64], shape: tuple[int, ...]
) -> None:
    data = np.zeros(shape)
    distances = np.linalg.norm(expected_places(data, a)[1] - expected_places(data, b)[1], axis=1)
    assert geometry.displacement(shape, a, b) == pytest.approx(distances.max(), abs=1e-9)


@given(affines(), st.floats(-4e-3, 4e-3), st.permutations(range(3)))
def test_repaired_axes_are_orthonormal_and_near(affine: NDArray[np.float64], shear: float, axes: list[int]) -> None:
    skewed = affine.copy()
    skewed[:3, axes[0]] += (
        shear * np.linalg.norm(affine[:3, axes[0]]) * affine[:3, axes[1]] / np.linalg.norm(affine[:3, axes[1]])
    )
    repaired, _ = geometry.orthonormalised(skewed, "x")
    directions = repaired[:3, :3] / geometry.spacing(repaired)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(repaired[:3, 3], skewed[:3, 3])
    np.testing.assert_allclose(geometry.spacing(repaired), geometry.spacing(skewed))
    # the nearest orthonormal matrix is no further away than the one that was skewed
    edges = geometry.spacing(skewed)
    before = skewed[:3, :3] / edges
    assert (
        np.linalg.norm(directions - before) <= np.linalg.norm(affine[:3, :3] / geometry.spacing(affine) - before) + 1e-5
    )


@given(affines(), shapes, st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_resampling_onto_the_same_places_changes_nothing(
    affine: NDArray[np.float64], shape: tuple[int, ...], seed: int
) -> None:
    data = np.random.default_rng(seed).integers(0, 9, shape).astype(np.uint8)
    turned, moved = geometry.reorient(data, affine, "RAS")
    back = resample_nearest(turned, moved, shape, affine, False).data
    np.testing.assert_array_equal(back, data)
    np.testing.assert_allclose(geometry.resample(turned, moved, shape, affine), data, atol=1e-3)


@given(
    st.dictionaries(st.integers(0, 300), st.integers(0, 4), min_size=1, max_size=12),
    st.sampled_from([np.uint8, np.int16, np.int32, np.float32, np.float64]),
    st.integers(0, 2**32 - 1),
)
def test_labels_are_mapped_value_by_value(mapping: dict[int, int], dtype: Any, seed: int) -> None:
    if dtype == np.uint8:
        mapping = {raw: label for raw, label in mapping.items() if raw < 256}
    by_label = {k: tuple(raw for raw, label in mapping.items() if label == k) for k in range(5)}
    rule = LabelRule({f"class{k}": by_label[k] for k in range(1, 4)}, background=by_label[0], ignore=by_label[4])
    raw = np.random.default_rng(seed).choice([0, *mapping], (3, 4, 5))
    expected = [rule.values()[int(value)] for value in raw.reshape(-1)]
    written = labels.relabelled(raw.astype(dtype), rule, "x")
    assert written.reshape(-1).tolist() == expected
    assert list(labels.value_counts(raw.astype(dtype))) == sorted(set(map(float, raw.reshape(-1))))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=7))
def test_votes_are_counted_as_a_person_would(votes: list[int]) -> None:
    masks = [np.full((1, 1, 1), vote, np.uint8) for vote in votes]
    results = {rule: bool(labels.combined(masks, rule).item()) for rule in ("union", "intersection", "majority")}
    assert results == {"union": any(votes), "intersection": all(votes), "majority": sum(votes) > len(votes) / 2}


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused_in_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii.gz"
        path.write_bytes(content)
        with pytest.raises(DataError) as raised:
            read_image(path)
    assert "\n" not in str(raised.value)


@given(st.integers(0, 351), st.binary(min_size=1, max_size=4))
@settings(max_examples=150)
def test_a_header_with_changed_bytes_is_read_or_refused_in_one_line(position: int, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save(np.arange(24.0, dtype=np.float32).reshape(2, 3, 4), Path(folder) / "a.nii")
        stored = bytearray(path.read_bytes())
        stored[position : position + len(content)] = content
        path.write_bytes(bytes(stored))
        refusals, image = [], None
        try:
            image = read_image(path)
        except DataError as error:
            refusals.append(str(error))
    assert not any("\n" in line for line in refusals)
    assert image is None or (image.data.ndim == 3 and np.isfinite(image.affine).all())


def test_what_is_written_is_always_the_same(tmp_path: Path) -> None:
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for name in ("a", "b"):
        write_image(data, np.diag([1.0, 2, 3, 1]), tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
