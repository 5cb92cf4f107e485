"""Convert one 3D case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.conversion import geometry, labels
from nnunet_transfer.conversion.description import Case, LabelRule, Pixels
from nnunet_transfer.conversion.job import Findings, Job, content_key, make_record, put_file
from nnunet_transfer.conversion.record import Record
from nnunet_transfer.conversion.spatial_images import SpatialImage, write_image
from nnunet_transfer.errors import DataError

#: more values than this are no list of labels
_MAX_LISTED_VALUES = 300


def convert_volumes(case: Case, job: Job, state: str) -> Record:
    """Write the images and the label of a case.

    Raises
    ------
    DataError
        If the case can't be converted; nothing is left of it then.
    """
    findings = Findings(actions=list(case.notes))
    try:
        _convert(case, job, findings)
    except DataError:
        for name in findings.files:
            (job.out / name).unlink(missing_ok=True)
        raise
    findings.put_in_order_of(case.files())
    return make_record(case, job, state, findings)


def _convert(case: Case, job: Job, findings: Findings) -> None:
    label = _read_label(case, job, findings)
    grid: tuple[tuple[int, ...], geometry.Affine] | None = None
    if label and job.geometry == "resample-image":
        grid = label.data.shape, label.affine
    folder = "Tr" if case.split == "train" else "Ts"
    for number, path in enumerate(map(_file, case.images.values())):
        image = findings.read(path)
        if number == 0:
            _measure_image(image, findings)
        _check_values(image, path.name, findings)
        grid = grid or (image.data.shape, image.affine)
        _put_image_on_grid(image, grid, path.name, job, findings)
        if number == 0:
            findings.measured["shape"] = tuple(image.data.shape)
            if job.rule.foreground:
                label = _foreground(image)
        name = f"images{folder}/{case.name}_{number:04d}.nii.gz"
        _write_image(image, path, name, job, findings)
    if label and grid:
        _put_label_on_grid(label, grid, job, findings)
        _measure_label(label, job.rule, findings)
        _write_label(label, f"labels{folder}/{case.name}.nii.gz", job, findings)


def _read_label(case: Case, job: Job, findings: Findings) -> SpatialImage | None:
    """Return the label with its final values, still on its own grid; None if there are no masks."""
    merged: SpatialImage | None = None
    by_rater: list[NDArray[np.uint8]] = []
    values: set[float] = set()
    for files in case.masks:
        rater: NDArray[np.uint8] | None = None
        for path in map(_file, files):
            mask = findings.read(path)
            values.update(labels.values_in(mask.data, _MAX_LISTED_VALUES))
            mask.data = _labelled(mask.data, job.rule, path.name, findings)
            if merged is None:
                merged = mask
            elif reason := geometry.describe_mismatch(merged.data.shape, merged.affine, mask.data.shape, mask.affine):
                raise DataError(f"{path.name} is on another grid than the case's other masks: {reason}")
            rater = mask.data if rater is None else rater | mask.data
        if rater is not None:
            by_rater.append(rater)
    if merged is None:
        return None
    if len(by_rater) > 1 or len(case.masks[0]) > 1:
        merged.data = labels.combined(by_rater, case.combine)
        findings.actions.append(
            f"{case.combine} of {len(by_rater)} raters" if len(by_rater) > 1 else f"union of {len(case.masks[0])} masks"
        )
    findings.measured["label_values"] = tuple(sorted(values))
    return merged


def _file(item: Path | Pixels) -> Path:
    if not isinstance(item, Path):
        raise DataError(f"{item.path} is no volume; descriptions of volumes must name files")
    return item


def _labelled(mask: NDArray[Any], rule: LabelRule, name: str, findings: Findings) -> NDArray[Any]:
    if not rule.binary:
        return labels.relabelled(mask, rule, name)
    if mask.dtype.kind == "f" and np.isnan(mask.max()):
        findings.warn(f"{name}: NaN taken as background")
    return labels.binarised(mask)


def _measure_image(image: SpatialImage, findings: Findings) -> None:
    findings.measured["orientation"] = geometry.orientation(image.affine)
    findings.measured["spacing"] = tuple(np.round(geometry.spacing(image.affine), 4).tolist())
    findings.measured["content"] = content_key(image.data)


def _check_values(image: SpatialImage, name: str, findings: Findings) -> None:
    low, high = image.data.min(), image.data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(image.data)
        image.data = np.where(bad, image.data.dtype.type(0), image.data)
        image.intact = False
        findings.warn(f"{name}: {int(bad.sum())} voxels that are no numbers set to 0")
        low, high = image.data.min(), image.data.max()
    if low == high:
        raise DataError(f"{name} is empty: all voxels are {low:g}")


def _put_image_on_grid(
    image: SpatialImage, grid: tuple[tuple[int, ...], geometry.Affine], name: str, job: Job, findings: Findings
) -> None:
    shape, affine = grid
    reason = geometry.describe_mismatch(shape, affine, image.data.shape, image.affine)
    if not reason:
        return
    if job.geometry != "resample-image":
        raise DataError(
            f"{name} is not on the grid of the first image: {reason}; take --geometry resample-image if that is meant"
        )
    image.data = geometry.resample(image.data, image.affine, shape, affine, label=False)
    image.affine = affine
    image.intact = False
    findings.actions.append(f"{name}: resampled (linear), was {reason}")


def _put_label_on_grid(
    label: SpatialImage, grid: tuple[tuple[int, ...], geometry.Affine], job: Job, findings: Findings
) -> None:
    shape, affine = grid
    reason = geometry.describe_mismatch(shape, affine, label.data.shape, label.affine)
    if reason and job.geometry == "copy-from-image" and label.data.shape == shape:
        findings.actions.append(f"label: geometry copied from image, was {reason}")
    elif reason and job.geometry == "resample-label":
        label.data = geometry.resample(label.data, label.affine, shape, affine, label=True)
        findings.actions.append(f"label: resampled (nearest neighbour), was {reason}")
    elif reason:
        raise DataError(
            f"the label is not on the image's grid: {reason}; "
            f"{job.hint or 'see --geometry for ways to go on if you know which one is right'}"
        )
    label.affine = affine  # within the tolerance, too: nnU-Net warns of differences of any size


def _foreground(image: SpatialImage) -> SpatialImage:
    return SpatialImage((image.data != 0).view(np.uint8), image.affine, "", "")


def _measure_label(label: SpatialImage, rule: LabelRule, findings: Findings) -> None:
    if len(rule.classes) == 1 and not rule.foreground:
        voxels, count = labels.lesion_load((label.data == 1).view(np.uint8))
        millilitres = voxels * float(np.prod(geometry.spacing(label.affine))) / 1000
        findings.measured |= {"lesion_ml": round(millilitres, 4), "lesions": count}
    if not label.data.any():
        findings.warn("empty label")


def _write_image(image: SpatialImage, path: Path, name: str, job: Job, findings: Findings) -> None:
    turned = _reoriented(image, job, findings, path.name)
    findings.measured.setdefault("written_orientation", geometry.orientation(image.affine))
    target = job.out / name
    findings.files.append(name)
    if image.intact and not turned:
        put_file(path, target, job.link)
    else:
        write_image(image.data, image.affine, target)


def _write_label(label: SpatialImage, name: str, job: Job, findings: Findings) -> None:
    _reoriented(label, job, findings, "label")
    findings.files.append(name)
    write_image(label.data, label.affine, job.out / name)


def _reoriented(image: SpatialImage, job: Job, findings: Findings, name: str) -> bool:
    before = geometry.orientation(image.affine)
    if not job.reorient or before == job.reorient:
        return False
    image.data, image.affine = geometry.reorient(image.data, image.affine, job.reorient)
    findings.actions.append(f"{name}: reoriented from {before} to {job.reorient}")
    return True
