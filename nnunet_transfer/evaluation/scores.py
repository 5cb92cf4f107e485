"""All scores of one case, for every metric and protocol in one pass over both masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.evaluation.detection import detect
from nnunet_transfer.evaluation.labels import Label, LabelSet
from nnunet_transfer.evaluation.lesions import LesionOverlap, lesion_overlap
from nnunet_transfer.evaluation.limits import check_limits
from nnunet_transfer.evaluation.masks import Volume, geometry_problem
from nnunet_transfer.evaluation.overlap import Foreground, bounding_box, confusion, crop_to_foreground, overlap
from nnunet_transfer.evaluation.protocols import LesionProtocol, check_distinct
from nnunet_transfer.evaluation.surface import surface_scores

#: increased whenever the definition of a score changes, so that older cached scores are not used
SCORES_VERSION = 2
DEFAULT_TOLERANCE_MM = 1.0

Row = dict[str, Any]
LESION_FIELDS = ("label", "protocol", "lesion", "volume_mm3", "detected", "coverage", "best_iou")
DETECTION_FIELDS = ("n_ref", "n_pred", "tp", "fp", "fn", "sensitivity", "precision", "f1")


@dataclass(frozen=True)
class ScoringSettings:
    """What to compute for each case.

    Attributes
    ----------
    protocols
        Lesion protocols.
    surface
        Whether to compute HD95 and NSD.
    tolerance_mm
        Tolerance of the NSD in mm.
    """

    protocols: tuple[LesionProtocol, ...] = ()
    surface: bool = True
    tolerance_mm: float = DEFAULT_TOLERANCE_MM

    def __post_init__(self) -> None:
        check_limits(tolerance_mm=self.tolerance_mm)
        check_distinct(self.protocols)


@dataclass(frozen=True)
class CaseScores:
    """Rows of one case in the table of cases (one per label) and of lesions (one per protocol and reference lesion)."""

    cases: list[Row] = field(default_factory=list)
    lesions: list[Row] = field(default_factory=list)


def score_case(
    reference: Volume,
    prediction: Volume,
    label_set: LabelSet,
    settings: ScoringSettings,
    *,
    check_labels: bool = True,
) -> CaseScores:
    """Score one prediction.

    Parameters
    ----------
    check_labels : refuse label values outside the label set

    Raises
    ------
    ComparisonError
        If the geometry of the masks differs, or a mask has a label outside the label set.
    """
    if problem := geometry_problem(reference, prediction):
        raise ComparisonError(problem)
    foreground = crop_to_foreground(reference.array, prediction.array)
    table = confusion(foreground)
    if check_labels:
        own_ignore = frozenset(p.ignore_label for p in settings.protocols if p.ignore_label is not None)
        _check_values("reference", table.reference_values, label_set.allowed | own_ignore, label_set)
        _check_values("prediction", table.predicted_values, label_set.allowed - label_set.ignore, label_set)
    scores = CaseScores()
    voxel_mm3 = float(np.prod(reference.spacing))
    diagonal = float(np.linalg.norm((np.array(reference.array.shape) - 1) * reference.spacing))
    for label in label_set.labels:
        counts = overlap(table, label.values, label_set.ignore)
        row: Row = {
            "label": label.name,
            "dice": counts.dice,
            "iou": counts.iou,
            "volume_ref_ml": counts.n_ref * voxel_mm3 / 1000,
            "volume_pred_ml": counts.n_pred * voxel_mm3 / 1000,
            "voxels_tp": counts.tp,
            "voxels_fp": counts.fp,
            "voxels_fn": counts.fn,
        }
        if settings.surface or settings.protocols:
            masks = _LabelMasks(foreground, label, label_set)
            if settings.surface:
                ref, pred = masks.without(label_set.ignore)
                surface = surface_scores(
                    ref,
                    pred,
                    reference.spacing,
                    tolerance_mm=settings.tolerance_mm,
                    diagonal_mm=diagonal,
                    image_shape=reference.array.shape,
                )
                row |= {"hd95_mm": surface.hd95_mm, "nsd": surface.nsd, "nsd_tolerance_mm": settings.tolerance_mm}
            _add_detection(row, scores.lesions, masks, settings.protocols, voxel_mm3)
        scores.cases.append(row)
    return scores


def _check_values(what: str, found: set[int], allowed: frozenset[int], label_set: LabelSet) -> None:
    if outside := sorted(found - allowed):
        if ignored := [v for v in outside if v in label_set.ignore]:
            raise ComparisonError(
                f"the {what} has label {ignored[0]}, which is ignored where a reference has it and is not a class; give these "
                f"voxels of the {what} another label"
            )
        names = ", ".join(f"{'/'.join(map(str, label.values))} ({label.name})" for label in label_set.labels)
        more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
        raise ComparisonError(
            f"the {what} has label {', '.join(map(str, outside[:5]))}{more}, which the data set doesn't name; "
            f"it has {names}"
        )


class _LabelMasks:
    """Boolean masks of one label, cropped, and cached lesion tables."""

    def __init__(self, foreground: Foreground, label: Label, label_set: LabelSet) -> None:
        self.label = label
        self.label_set = label_set
        ref, pred = _isin(foreground.reference, label.values), _isin(foreground.prediction, label.values)
        box = bounding_box(ref | pred)
        self._reference, self._prediction = ref[box], pred[box]
        self._labels = foreground.reference[box]
        self._tables: dict[tuple[int, frozenset[int], int], LesionOverlap] = {}

    def without(self, ignore: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return reference and prediction with the voxels of ignored reference labels removed."""
        if not ignore:
            return self._reference, self._prediction
        counted = ~np.isin(self._labels, tuple(ignore))
        return self._reference & counted, self._prediction & counted

    def table(self, protocol: LesionProtocol) -> LesionOverlap:
        """Return the table of lesions with the protocol's connectivity, ignored labels and dilation."""
        ignore = self.label_set.ignore
        # a protocol's ignored label would disappear if it were the scored label
        if protocol.ignore_label is not None and protocol.ignore_label not in self.label.values:
            ignore = ignore | {protocol.ignore_label}
        # a label that doesn't occur in this case changes nothing: share the table
        ignore = frozenset(v for v in ignore if (self._labels == v).any())
        key = (protocol.connectivity, ignore, protocol.merge_dilation)
        if key not in self._tables:
            ref, pred = self.without(ignore)
            self._tables[key] = lesion_overlap(
                ref, pred, connectivity=protocol.connectivity, dilation=protocol.merge_dilation
            )
        return self._tables[key]


def _isin(array: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    return array == values[0] if len(values) == 1 else np.isin(array, values)


def _add_detection(
    row: Row, lesions: list[Row], masks: _LabelMasks, protocols: tuple[LesionProtocol, ...], voxel_mm3: float
) -> None:
    for protocol in protocols:
        table = masks.table(protocol)
        result = detect(table, protocol, voxel_mm3)
        row |= {f"{protocol.name}_{name}": getattr(result, name) for name in DETECTION_FIELDS}
        best = np.zeros(table.n_ref)
        np.maximum.at(best, table.ref_index, table.iou())
        chosen = result.lesions
        columns = (
            (chosen + 1).tolist(),
            (table.ref_sizes[chosen] * voxel_mm3).tolist(),
            result.detected.tolist(),
            table.ref_covered()[chosen].tolist(),
            best[chosen].tolist(),
        )
        for values in zip(*columns, strict=True):
            lesions.append(dict(zip(LESION_FIELDS, (masks.label.name, protocol.name, *values), strict=True)))
