"""The label of one 3D case: read the masks, set final values, put them on the image's grid, measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.conversion import geometry, labels
from nnunet_transfer.conversion.description import LabelRule
from nnunet_transfer.conversion.job import Findings, Job
from nnunet_transfer.conversion.label_resampling import resample_by_coverage, resample_nearest
from nnunet_transfer.conversion.spatial_images import SpatialImage
from nnunet_transfer.errors import DataError
from nnunet_transfer.words import counted

#: masks with more values are not label maps
_MAX_LISTED_VALUES = 300
_MIRROR = (
    "it is stored with its axes in another order or direction, so copying the header would mirror or turn it; "
    "take --geometry resample-label, which is exact here"
)


def read_label(masks: Sequence[Sequence[Path]], combine: str, job: Job, findings: Findings) -> SpatialImage | None:
    """Return the label with its final values on its original grid; None if there are no masks.

    Parameters
    ----------
    masks : files of each rater
    combine : how to combine the masks of several raters

    Raises
    ------
    DataError
        If a mask can't be read, has values that the rule doesn't allow, or is on another grid than the other masks.
    """
    merged: SpatialImage | None = None
    by_rater: list[NDArray[np.uint8]] = []
    counts: dict[float, int] = {}
    for files in masks:
        rater: NDArray[np.uint8] | None = None
        for path in files:
            mask = findings.read(path)
            findings.mask_sha256.add(mask.sha256)
            mask.data = _labelled(mask.data, job, path.name, findings, counts)
            if merged is None:
                merged = mask
            elif reason := geometry.describe_mismatch(merged.data.shape, merged.affine, mask.data.shape, mask.affine):
                raise DataError(f"{path.name} is on a different grid from the case's other masks: {reason}")
            rater = mask.data if rater is None else rater | mask.data
        if rater is not None:
            by_rater.append(rater)
    if merged is None:
        return None
    if len(by_rater) > 1 or len(masks[0]) > 1:
        merged.data = labels.combined(by_rater, combine)
        findings.actions.append(
            f"{combine} of {len(by_rater)} raters" if len(by_rater) > 1 else f"union of {len(masks[0])} masks"
        )
    listed = sorted(counts)[:_MAX_LISTED_VALUES]
    findings.measured |= {
        "label_values": tuple(listed),
        "label_voxels": tuple(counts[value] for value in listed),
    }
    return merged


def _labelled(mask: NDArray[Any], job: Job, name: str, findings: Findings, counts: dict[float, int]) -> NDArray[Any]:
    """Return the labels of a mask; add its values to `counts`."""
    if mask.dtype.kind in "iu" and max(abs(int(mask.min())), int(mask.max())) > labels.LARGEST_WHOLE:
        raise DataError(f"{name} holds whole numbers beyond 2^53, which no label is; correct it")
    found = labels.value_counts(mask)
    for value, voxels in found.items():
        counts[value] = counts.get(value, 0) + voxels
    if not job.rule.binary:
        return labels.relabelled(mask, job.rule, name)
    if any(np.isnan(value) for value in found):
        findings.warn(f"{name}: NaN read as background")
    if job.threshold is not None and not labels.is_signed(found, mask.dtype):
        findings.actions.append(f"{name}: values above {job.threshold:g} set to 1")
        if labels.is_for_smaller_values(job.threshold, found):
            findings.warn(f"{name}: threshold {job.threshold:g} hardly suits values up to {max(found):.6g}")
        above = labels.above(mask, job.threshold)
        if any(found) and not above.any():
            findings.warn(f"{name}: nothing is above the threshold")
        return above
    level = labels.find_level(found, mask.dtype, name)
    if level.note:
        findings.actions.append(f"{name}: {level.note}")
    return labels.binarised(mask, level)


def put_label_on_grid(
    label: SpatialImage, shape: tuple[int, ...], affine: geometry.Affine, job: Job, findings: Findings
) -> None:
    """Put the label on the image's grid, if the policy `job.geometry` allows it.

    Raises
    ------
    DataError
        If the grids differ and the policy doesn't cover the difference.
    """
    if job.rule.binary:
        _measure_source(label, findings)
    reason = geometry.describe_mismatch(shape, affine, label.data.shape, label.affine)
    if reason and job.geometry.startswith("resample-label"):
        _resample(label, shape, affine, reason, job, findings)
    elif reason and geometry.stored_otherwise(shape, affine, label.data.shape, label.affine):
        raise DataError(f"the label is not on the image's grid: {reason}; {_MIRROR}")
    elif reason and job.geometry == "copy-from-image" and label.data.shape == shape:
        _copy_geometry(label, affine, reason, findings)
    elif reason:
        raise DataError(
            f"the label is not on the image's grid: {reason}; "
            f"{job.hint or 'if you know which one is right, choose with --geometry'}"
        )
    label.affine = affine  # also within the tolerance, because nnU-Net warns of any difference


def _copy_geometry(label: SpatialImage, affine: geometry.Affine, reason: str, findings: Findings) -> None:
    own, wanted = geometry.orientation(label.affine), geometry.orientation(affine)
    text = f"label: geometry copied from image, was {reason}"
    if own == wanted:
        findings.actions.append(text)
    else:
        findings.warn(f"{text} and {own} instead of {wanted}: check that it is not mirrored")


def _resample(
    label: SpatialImage, shape: tuple[int, ...], affine: geometry.Affine, reason: str, job: Job, findings: Findings
) -> None:
    by_coverage = job.geometry == "resample-label-coverage"
    method = resample_by_coverage if by_coverage else resample_nearest
    before = int(np.count_nonzero(label.data)) * float(np.prod(geometry.spacing(label.affine))) / 1000
    result = method(label.data, label.affine, shape, affine, job.rule.binary)
    after = int(np.count_nonzero(result.data)) * float(np.prod(geometry.spacing(affine))) / 1000
    values = set(labels.value_counts(label.data)) - set(labels.value_counts(result.data))
    label.data, findings.resampled = result.data, True
    kind = "coverage" if by_coverage else "nearest neighbour"
    findings.actions.append(f"label: resampled ({kind}), was {reason}; {before:.4g} ml became {after:.4g} ml")
    if result.lost:
        advice = "they lie outside the image" if by_coverage else "--geometry resample-label-coverage keeps small ones"
        findings.warn(f"label: {result.lost} of {result.components} lesions lost in resampling; {advice}")
    elif values and not job.rule.binary:
        findings.warn(f"label: {counted(len(values), 'class', 'classes')} lost in resampling")


def _measure_source(label: SpatialImage, findings: Findings) -> None:
    voxels, count = labels.lesion_load((label.data == 1).view(np.uint8))
    millilitres = voxels * float(np.prod(geometry.spacing(label.affine))) / 1000
    findings.measured |= {"source_lesion_ml": round(millilitres, 4), "source_lesions": count}


def measure_label(label: SpatialImage, rule: LabelRule, findings: Findings) -> None:
    """Measure the final label; warn if it is empty."""
    if rule.foreground:
        return
    found = labels.value_counts(label.data)
    findings.measured |= {"written_values": tuple(map(int, found)), "written_voxels": tuple(found.values())}
    if rule.one_structure:
        # count components again only if resampling changed them
        same = rule.binary and not findings.resampled
        count = findings.measured["source_lesions"] if same else labels.lesion_load((label.data == 1).view(np.uint8))[1]
        voxels = found.get(1.0, 0)
        millilitres = voxels * float(np.prod(geometry.spacing(label.affine))) / 1000
        findings.measured |= {"lesion_ml": round(millilitres, 4), "lesions": count}
    if not any(found):
        findings.warn("empty label")
