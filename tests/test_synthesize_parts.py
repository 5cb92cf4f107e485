"""The parts that make an image: pasted lesions, mass effects, registration, turning upright, names of tissues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nnunet_transfer.dataset_conversion import _freesurfer_labels as freesurfer
from nnunet_transfer.errors import DataError
from nnunet_transfer.synthetic.case import turn_labels, upright_turn
from nnunet_transfer.synthetic.lesions import MODELS, fit_mask, paste_lesion, push_aside
from nnunet_transfer.synthetic.space import _resample, _template, align_to_mni
from nnunet_transfer.synthetic.tissues import TISSUES, Kind, freesurfer_numbering, tissue_by_name
from tests.synthetic_heads import SHAPE, radius


@given(
    kind=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 2**31),
    spacing=st.tuples(*[st.sampled_from([0.8, 1.0, 2.0, 4.0])] * 3),
)
@settings(max_examples=25, deadline=None)
def test_a_pasted_lesion_lies_between_tissue_and_fluid(kind: str, seed: int, spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seed)
    kinds = np.select(
        [radius() < 1.6, radius() < 5, radius() < 7], [Kind.CSF, Kind.WHITE, Kind.GREY], Kind.OUTSIDE
    ).astype(np.uint8)
    image = np.select([kinds == k for k in (1, 2, 3)], [0.25, 0.6, 1.0], 0.0).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(c, c + 4) for c in rng.integers(5, 9, 3))] = True
    fitted = fit_mask(mask, kinds, np.array(spacing), MODELS[kind])
    if fitted is None:
        return
    assert not (fitted & ~mask).any()
    assert (kinds[fitted] >= Kind.GREY).all()
    placed = paste_lesion(image, kinds, fitted, np.array(spacing), MODELS[kind], rng)
    assert np.array_equal(placed.mask, fitted)
    tissue = kinds >= Kind.GREY
    assert np.array_equal(placed.image[~tissue], image[~tissue])
    # up to the texture, whose standard deviation is at most 0.04
    assert (placed.image <= image + 6 * 0.04).all()
    assert (placed.image >= np.minimum(image, 0.22) - 6 * 0.04).all()
    assert placed.image[fitted].mean() < image[fitted].mean() + 0.04


def test_a_mass_effect_moves_the_border_and_never_folds() -> None:
    grid = np.meshgrid(*[np.arange(48) - 23.5] * 3, indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    labels = np.where(radius < 10, 1, np.where(radius < 16, 2, 3)).astype(np.int32)
    image, moved, mask = push_aside(radius.astype(np.float32), labels, radius < 8, np.ones(3), 3.0)
    assert (3 * mask.sum() / (4 * np.pi)) ** (1 / 3) == pytest.approx(11, abs=0.5)
    shell = (3 * (moved == 1).sum() / (4 * np.pi)) ** (1 / 3)
    assert 10 < shell < 13.5
    assert (moved == 2).sum() > 0
    line = image[24:, 24, 24]  # what lay further out still does
    assert (np.diff(line) >= 0).all()
    still = push_aside(radius.astype(np.float32), labels, radius < 8, np.ones(3), 0.0)
    assert np.array_equal(still[1], labels)
    assert np.allclose(still[0], radius, atol=1e-4)
    with pytest.raises(ValueError, match="fold"):
        push_aside(image, labels, radius < 8, np.ones(3), 12.0)


def test_registration_finds_a_known_transform() -> None:
    template, affine = _template()
    angle = np.radians(25)
    known = np.eye(4)
    known[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    known[:3, :3] *= 1.1
    known[:3, 3] = (12, -30, 45)  # of the subject's space, in mm of MNI space
    shape = (80, 80, 80)
    grid = np.diag([4.0, 4, 4, 1])
    grid[:3, 3] = -150
    subject = _resample(template, affine, shape, known @ grid)
    matrix, overlap = align_to_mni(subject, grid)
    assert overlap > 0.95
    points = np.linalg.inv(known) @ np.array([[0, 0, 0, 1], [50, 20, 10, 1], [-40, -60, 30, 1], [0, 50, -20, 1]]).T
    error = np.linalg.norm(((matrix - known) @ points)[:3], axis=0)
    assert error.max() < 3
    again, _ = align_to_mni(subject, grid)
    assert np.array_equal(matrix, again)
    with pytest.raises(DataError, match="--mask-space image"):
        align_to_mni(np.ones((4, 40, 40), np.float32), np.eye(4))


@given(angles=st.tuples(*[st.floats(-40, 40)] * 3), spacing=st.sampled_from([1.0, 1.5]))
@settings(max_examples=10, deadline=None)
def test_turning_upright_undoes_a_rotation(angles: tuple[float, ...], spacing: float) -> None:
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    scaled = tilt.copy()
    scaled[:3, :3] *= 1.1  # a registration also scales
    turn = upright_turn(np.linalg.inv(scaled))
    assert np.allclose(turn @ tilt, np.eye(4), atol=1e-9)
    box = np.zeros((30, 30, 30), np.int32)
    box[5:25, 8:22, 11:19] = 1
    tilted, grid = turn_labels(box, np.eye(4), tilt, np.ones(3))
    upright, back = turn_labels(tilted, grid, turn, np.full(3, spacing))
    extent = [(s.stop - s.start) * spacing for s in ndimage.find_objects((upright > 0).astype(np.uint8))[0]]
    assert np.allclose(extent, (20, 14, 8), atol=2.5)
    assert np.allclose(back[:3, :3], np.eye(3) * spacing)
    # each of the two samplings may move a face by half a voxel: (20 - 1.25) * (14 - 1.25) * (8 - 1.25) is 28 % less
    assert (upright > 0).sum() * spacing**3 == pytest.approx(20 * 14 * 8, rel=0.3)


def test_names_and_numbers_tell_the_same_tissue() -> None:
    numbering = freesurfer_numbering()
    for name, values in freesurfer.subcortical(freesurfer.UNDETERMINED).items():
        for value in values if isinstance(values, tuple) else (values,):
            by_number = TISSUES[numbering.tissues[numbering.clusters[value]]]
            by_name = tissue_by_name(name)
            assert by_name is not None, name
            assert TISSUES[by_name].kind == by_number.kind, name
    for name, value in freesurfer.cortical().items():
        assert tissue_by_name(name) == numbering.clusters[value] == "cortex"
    merged = [v for values in numbering.structures.values() for v in values]
    assert len(merged) == len(set(merged))
