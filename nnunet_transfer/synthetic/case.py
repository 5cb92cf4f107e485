"""Make one case: read its label map, place a lesion, synthesise or copy the image, write both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transfer.conversion.raw_dataset import IGNORE
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_path, read_json, write_json
from nnunet_transfer.synthetic.donors import Donor, read_mask
from nnunet_transfer.synthetic.generator import PROFILES, draw_parameters, generate
from nnunet_transfer.synthetic.label_maps import LabelMap, read_labels
from nnunet_transfer.synthetic.lesions import MODELS, fit_mask, paste_lesion, push_aside
from nnunet_transfer.synthetic.settings import LESION, CasePlan, Plan
from nnunet_transfer.synthetic.space import align_to_mni, resample_mask
from nnunet_transfer.synthetic.tissues import TISSUES, Kind, Numbering
from nnunet_transfer.synthetic.volumes import read_array

Labels = NDArray[np.int32]
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]

ALIGNMENTS, RECORDS = "alignments", "records"
_INT32 = np.iinfo(np.int32)
#: intensity scale of synthetic images as integers: approximate value of a brain's brightest voxels
_SCALE = 1000
#: mm of background around a head or brain; while it is deformed, this share of its size on each side
_BORDER, _ROOM = 10.0, 0.2
#: maximum number of donors tried for a case
_TRIES = 25
#: ranges of random movements of a mask about its centre, so that a donor gives different lesions
_TURN, _STRETCH, _SHIFT = 10.0, 0.15, 8.0


def make_case(plan: Plan, case: CasePlan, work: Path) -> dict[str, Any]:
    """Make a case and write image, label and, last, its record; return the record.

    A case only depends on the plan's settings and its own random numbers, not on other cases or processes.

    Raises
    ------
    DataError
        If its files can't be read, or no lesion fits.
    """
    rng = case.rng()
    labels, affine = read_labels(case.map.path, plan.maps.numbering)
    made = (
        _real(plan, case, labels, affine, rng, work) if case.map.image else _new(plan, case, labels, affine, rng, work)
    )
    image, labels, lesion, affine, record = made
    values = output_values(plan.maps.numbering, plan.labels)
    target = _lookup(labels, values).astype(np.uint8 if max(plan.labels.values()) < 256 else np.uint16)
    if plan.donors:
        target[lesion] = plan.labels[LESION]
    _save(image, affine, work / f"imagesTr/{case.name}_0000.nii.gz")
    _save(target, affine, work / f"labelsTr/{case.name}.nii.gz")
    volume = float(lesion.sum() * np.prod(spacing_of(affine)) / 1000)
    record = {"case": case.name, "subject": case.map.subject, "label_map": case.map.name, **record}
    if plan.donors:
        record["lesion"]["volume_ml"] = round(volume, 4)
    write_json(work / RECORDS / f"{case.name}.json", record)
    return record


_Made = tuple[NDArray[Any], Labels, Mask, Affine, dict[str, Any]]


def _real(plan: Plan, case: CasePlan, labels: Labels, affine: Affine, rng: np.random.Generator, work: Path) -> _Made:
    """Paste a lesion into a real image, which keeps its integer type."""
    assert case.map.image is not None
    image, image_affine = read_array(case.map.image, upright=True)
    if image.shape != labels.shape or not np.allclose(image_affine, affine, atol=1e-3):
        raise DataError(f"{case.map.image} and {case.map.path} have different grids; bring them onto one")
    mask, record = place_lesion(plan, case, labels, affine, rng, work)
    pasted, labels, mask, drawn = _paste(plan, image.astype(np.float32), labels, mask, affine, record, rng)
    return _in_type_of(image, pasted), labels, mask, affine, drawn


def _in_type_of(image: NDArray[Any], pasted: Image) -> NDArray[Any]:
    """Return a pasted image as integers, if the image has integers that nnU-Net's reader reads.

    Voxels that pasting didn't change are the image's own, also where 32-bit floating point can't hold them.
    """
    dtype = image.dtype.newbyteorder("=")
    if dtype.kind in "iu" and dtype.itemsize == 8 and image.min() >= _INT32.min and image.max() <= _INT32.max:
        dtype = _INT32.dtype
    if dtype.kind not in "iu" or dtype.itemsize == 8:
        return pasted
    bounds = np.iinfo(dtype)
    rounded = np.clip(np.rint(pasted.astype(np.float64)), bounds.min, bounds.max)
    return np.where(pasted == image.astype(np.float32), image, rounded).astype(dtype)


def _new(plan: Plan, case: CasePlan, labels: Labels, affine: Affine, rng: np.random.Generator, work: Path) -> _Made:
    """Synthesise an image, with a lesion where donors are given."""
    settings, numbering = plan.settings, plan.maps.numbering
    if numbering.ignored is not None and (labels == numbering.ignored).any():
        raise DataError(
            f"{case.map.path} has voxels to ignore (value {numbering.ignored}), whose tissue, and so intensity, is unknown; "
            "give label maps without them, or take --images real"
        )
    whole = settings.head == "whole" or (settings.head == "both" and bool(rng.integers(2)))
    record: dict[str, Any] = {}
    turn = np.eye(4)
    if settings.upright:
        turn = upright_turn(_alignment(plan, case.map, work)[0])
        labels, affine = turn_labels(labels, affine, turn, np.array(settings.spacing or spacing_of(affine)))
    elif settings.spacing:
        labels, affine = resample_labels(labels, affine, np.array(settings.spacing))
    if not whole:
        labels = np.where(_lookup(labels, _kinds(numbering)) > Kind.OUTSIDE, labels, 0)
    labels, affine = pad(labels, affine)
    lesion = np.zeros(labels.shape, bool)
    if case.donors:
        lesion, record = place_lesion(plan, case, labels, affine, rng, work, turn)
    clusters = sorted({numbering.clusters[v] for v in np.unique(labels).tolist() if v})
    drawn = draw_parameters(numbering, clusters, PROFILES[settings.profile], rng)
    seed = int(rng.integers(2**31))
    details: dict[str, Any] = {}

    def paste(image: Image, moved: Labels, mask: Mask) -> tuple[Image, Mask]:
        nonlocal details
        level = float(rng.uniform(0, 1)) if PROFILES[settings.profile].any_contrast else None
        image, _, mask, details = _paste(plan, image, moved, mask, affine, record, rng, push=False, level=level)
        return image, mask

    if record and (push := _push(plan, record, rng)):
        nothing = np.zeros(labels.shape, np.float32)
        _, pushed, lesion = push_aside(nothing, labels, lesion, spacing_of(affine), push)
        labels = pushed.astype(np.int32)
    made = generate(labels, lesion, spacing_of(affine), numbering, drawn, seed, paste if record else None)
    box, affine = crop_box(made.labels > 0, affine)
    moved, deformed, lesion = made.image[box], made.labels[box], made.lesion[box]
    image = moved if whole else moved * (deformed > 0)
    image = np.rint(np.clip(image * _SCALE, 0, np.iinfo(np.int16).max)).astype(np.int16)
    head = {"head": "whole" if whole else "brain", "intensities": drawn.to_dict(), "generator_seed": seed}
    return image, deformed, lesion, affine, {**head, **details}


def place_lesion(
    plan: Plan,
    case: CasePlan,
    labels: Labels,
    affine: Affine,
    rng: np.random.Generator,
    work: Path,
    turn: Affine | None = None,
) -> tuple[Mask, dict[str, Any]]:
    """Draw donors until a lesion fits; return its voxels, its donor and its movement.

    Parameters
    ----------
    turn : mm of the label map's file -> mm of `affine`, if it was turned

    Raises
    ------
    DataError
        If none of `_TRIES` fits.
    """
    to_mni, overlap = np.eye(4), None
    if plan.settings.mask_space == "mni":
        to_mni, overlap = _alignment(plan, case.map, work)
    if turn is not None:
        to_mni = to_mni @ np.linalg.inv(turn)
    kinds = _lookup(labels, _kinds(plan.maps.numbering)).astype(np.uint8)
    kinds_of = sorted({donor.kind for donor in case.donors})
    rejected: list[str] = []
    for _ in range(_TRIES):
        # draw the kind first, because kinds may have very different numbers of donors
        kind = kinds_of[int(rng.integers(len(kinds_of)))]
        of_kind = [donor for donor in case.donors if donor.kind == kind]
        donor = of_kind[int(rng.integers(len(of_kind)))]
        mask, mask_affine, centre = _donor_mask(donor)
        move, moved = _move(centre, rng) if plan.settings.mask_space == "mni" else (np.eye(4), {})
        found = resample_mask(mask, mask_affine, labels.shape, affine, move @ to_mni)
        fitted = fit_mask(found, kinds, spacing_of(affine), MODELS[donor.kind])
        if fitted is not None:
            record = {"donor": donor.name, "kind": donor.kind, **moved, "donors_that_did_not_fit": rejected}
            return fitted, record | ({"overlap_with_mni": round(overlap, 4)} if overlap else {})
        rejected.append(donor.name)
    raise DataError(
        f"none of {_TRIES} lesions fits into {case.map.name}: their masks hardly meet its tissue; check that the masks' "
        f"space is {plan.settings.mask_space}, or choose another with --mask-space"
    )


def _push(plan: Plan, record: dict[str, Any], rng: np.random.Generator) -> float:
    if not plan.settings.mass_effect:
        return 0.0
    record["mass_effect_mm"] = round(float(rng.uniform(0, plan.settings.mass_effect)), 3)
    return float(record["mass_effect_mm"])


def _paste(
    plan: Plan,
    image: Image,
    labels: Labels,
    mask: Mask,
    affine: Affine,
    record: dict[str, Any],
    rng: np.random.Generator,
    *,
    push: bool = True,
    level: float | None = None,
) -> tuple[Image, Labels, Mask, dict[str, Any]]:
    """Paste a placed lesion; return image, labels and mask, which a mass effect moves, and the record."""
    spacing = spacing_of(affine)
    if push and (mm := _push(plan, record, rng)):
        image, moved, mask = push_aside(image, labels, mask, spacing, mm)
        labels = moved.astype(np.int32)
    kinds = _lookup(labels, _kinds(plan.maps.numbering)).astype(np.uint8)
    placed = paste_lesion(image, kinds, mask, spacing, MODELS[record["kind"]], rng, level=level)
    return placed.image, labels, placed.mask, {"lesion": record | placed.parameters}


def _alignment(plan: Plan, label_map: LabelMap, work: Path) -> tuple[Affine, float]:
    """Return the registration of a label map with MNI space, from its file or computed reproducibly."""
    path = work / ALIGNMENTS / f"{label_map.name}.json"
    if not path.is_file():
        labels, affine = read_labels(label_map.path, plan.maps.numbering)
        tissues = {v: plan.maps.numbering.tissues[c] for v, c in plan.maps.numbering.clusters.items()}
        means = {v: TISSUES[t].mean if TISSUES[t].kind else 0.0 for v, t in tissues.items()}
        try:
            matrix, overlap = align_to_mni(_lookup(labels, means), affine)
        except DataError as error:
            raise DataError(f"{label_map.path}: {error}") from None
        write_json(path, {"matrix": matrix.tolist(), "overlap": overlap})
    content = read_json(path)
    return np.array(content["matrix"]), float(content["overlap"])


def _move(centre: NDArray[np.float64], rng: np.random.Generator) -> tuple[Affine, dict[str, Any]]:
    """Return MNI space -> the mask's space for a mask that is moved about its centre, and perhaps mirrored."""
    mirrored = bool(rng.integers(2))
    turn = rng.uniform(-_TURN, _TURN, 3).round(3)
    stretch = rng.uniform(1 - _STRETCH, 1 + _STRETCH, 3).round(4)
    shift = rng.uniform(-_SHIFT, _SHIFT, 3).round(3)
    matrix = np.eye(4)
    for axis, degrees in enumerate(turn):
        i, j = [a for a in range(3) if a != axis]
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        rotation = np.eye(4)
        rotation[i, i], rotation[i, j], rotation[j, i], rotation[j, j] = c, -s, s, c
        matrix = matrix @ rotation
    matrix[:3, :3] = matrix[:3, :3] / stretch
    matrix[:3, 3] = centre - matrix[:3, :3] @ (centre + shift)
    mirror = np.diag([-1.0 if mirrored else 1.0, 1, 1, 1])
    moved = {"mirrored": mirrored, "turn": turn.tolist(), "stretch": stretch.tolist(), "shift_mm": shift.tolist()}
    return matrix @ mirror, moved


@lru_cache(maxsize=32)
def _donor_mask(donor: Donor) -> tuple[Mask, Affine, NDArray[np.float64]]:
    mask, affine = read_mask(donor)
    centre = (affine @ [*np.argwhere(mask).mean(axis=0), 1.0])[:3]
    return mask, affine, centre


def _kinds(numbering: Numbering) -> dict[int, float]:
    return {v: float(TISSUES[numbering.tissues[c]].kind) for v, c in numbering.clusters.items()}


def output_values(numbering: Numbering, labels: Mapping[str, int]) -> dict[int, float]:
    """Return value on disk -> value of the output label."""
    values = {value: float(labels[name]) for name, merged in numbering.structures.items() for value in merged}
    return values | ({numbering.ignored: float(labels[IGNORE])} if numbering.ignored and IGNORE in labels else {})


def _lookup(labels: Labels, values: Mapping[int, float]) -> NDArray[np.float64]:
    """Look up the value of each voxel's label in `values`, 0 if it isn't there."""
    present, inverse = np.unique(labels, return_inverse=True)
    return np.array([values.get(v, 0.0) for v in present.tolist()])[inverse.reshape(labels.shape)]


def spacing_of(affine: Affine) -> NDArray[np.float64]:
    """Return the lengths of a voxel's edges, mm."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def resample_labels(labels: Labels, affine: Affine, spacing: NDArray[np.float64]) -> tuple[Labels, Affine]:
    """Return labels of the nearest voxels on a grid with another spacing (mm) and the same outer border."""
    factor = spacing / spacing_of(affine)
    shape = tuple(int(n) for n in np.maximum(1, np.floor(np.array(labels.shape) / factor + 1e-6)))
    offset = (factor - 1) / 2
    result = ndimage.affine_transform(labels, factor, offset, output_shape=shape, order=0, mode="nearest")
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = np.diag(factor), offset
    return result, affine @ step


def upright_turn(to_mni: Affine) -> Affine:
    """Return the rotation closest to an affine registration, which aligns the axes with MNI space."""
    left, _, right = np.linalg.svd(to_mni[:3, :3])
    turn = np.eye(4)
    turn[:3, :3] = left @ right
    return turn


def turn_labels(labels: Labels, affine: Affine, turn: Affine, spacing: NDArray[np.float64]) -> tuple[Labels, Affine]:
    """Resample labels (nearest neighbour) to a grid along the axes of the rotated space, around all labelled voxels.

    Parameters
    ----------
    turn : mm of `affine` -> mm of the turned space
    spacing : mm of the new grid
    """
    voxels = np.argwhere(labels > 0)
    corners = (turn @ affine @ np.column_stack([voxels, np.ones(len(voxels))]).T)[:3]
    grid = np.diag([*spacing, 1.0])
    grid[:3, 3] = corners.min(axis=1)
    shape = tuple(int(n) for n in np.ceil(np.ptp(corners, axis=1) / spacing) + 1)
    matrix = np.linalg.inv(turn @ affine) @ grid
    return ndimage.affine_transform(labels, matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=0), grid


def pad(labels: Labels, affine: Affine) -> tuple[Labels, Affine]:
    """Crop labels to the labelled voxels and pad them with background, with room for deformation."""
    box, cut = _box(labels > 0, affine, np.zeros(3, int))
    inner = labels[box]
    room = np.ceil(_ROOM * np.array(inner.shape)).astype(int)
    step = np.eye(4)
    step[:3, 3] = -room
    return np.pad(inner, [(r, r) for r in room]), cut @ step


def crop_box(labelled: Mask, affine: Affine) -> tuple[tuple[slice, ...], Affine]:
    """Return the bounding box of the labelled voxels with a margin, inside the volume, and its affine."""
    return _box(labelled, affine, np.ceil(_BORDER / spacing_of(affine)).astype(int))


def _box(labelled: Mask, affine: Affine, margin: NDArray[np.integer[Any]]) -> tuple[tuple[slice, ...], Affine]:
    boxes = ndimage.find_objects(labelled.astype(np.uint8))
    if not boxes:
        raise DataError("a label map has background only; remove it")
    box = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(boxes[0], margin.tolist(), strict=True))
    step = np.eye(4)
    step[:3, 3] = [s.start for s in box]
    return box, affine @ step


def _save(array: NDArray[np.generic], affine: Affine, path: Path) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
