"""Lesion-wise detection scores: apply a protocol to the table of lesion overlaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nnunet_transfer.evaluation.lesions import LesionOverlap
from nnunet_transfer.evaluation.protocols import EmptyScores, LesionProtocol

NAN = float("nan")
BoolArray = NDArray[np.bool_]
#: relative tolerance of comparisons with thresholds and volumes, so that rounding never decides
SLACK = 1e-9


@dataclass(frozen=True)
class Detection:
    """Counts of one case under a protocol.

    Attributes
    ----------
    n_ref, n_pred : number of scored lesions in reference and prediction
    tp, fp, fn : as defined by the protocol's F1 family
    sensitivity, precision, f1 : NaN if undefined and the protocol sets no value
    lesions : indices of the scored reference lesions in the unfiltered table, shape (n_ref,)
    detected : whether each of them was found, shape (n_ref,)
    """

    n_ref: int
    n_pred: int
    tp: int
    fp: int
    fn: int
    sensitivity: float
    precision: float
    f1: float
    lesions: NDArray[np.int64]
    detected: BoolArray


def detect(table: LesionOverlap, protocol: LesionProtocol, voxel_mm3: float) -> Detection:
    """Count detected, missed and false lesions.

    Parameters
    ----------
    table : overlaps of the lesions, labelled with the protocol's connectivity, ignored label and dilation
    voxel_mm3 : volume of a voxel in mm³
    """
    scored_ref = _large(table.ref_sizes * voxel_mm3, protocol)
    match = MATCHERS[protocol.matching]
    if protocol.ignore_small_reference:
        every_pred = np.ones(table.n_pred, bool)
        ref_found, pred_found = match(table.select(scored_ref, every_pred), protocol)
        # predictions that match only a small reference lesion aren't scored
        scored_pred = pred_found | ~match(table, protocol)[1]
        pred_found = pred_found[scored_pred]
    else:
        scored_pred = _large(table.pred_sizes * voxel_mm3, protocol)
        ref_found, pred_found = match(table.select(scored_ref, scored_pred), protocol)
    n_ref, n_pred = int(scored_ref.sum()), int(scored_pred.sum())
    found, matched = int(ref_found.sum()), int(pred_found.sum())
    fp, fn = n_pred - matched, n_ref - found
    tp = matched if protocol.f1 == "prediction" else found
    sensitivity = _ratio(found, n_ref)
    precision = _ratio(matched, n_pred) if protocol.f1 in ("harmonic", "prediction") else _ratio(tp, tp + fp)
    if n_ref == 0 or n_pred == 0:
        rule = protocol.both_empty
        if n_ref:
            rule = protocol.prediction_empty
        elif n_pred:
            rule = protocol.reference_empty
        sensitivity, precision = _fill(rule.sensitivity, sensitivity), _fill(rule.precision, precision)
    else:
        rule = EmptyScores()
    if protocol.f1 == "harmonic":
        f1 = _harmonic(sensitivity, precision)
    else:
        f1 = _ratio(2 * tp, 2 * tp + fp + fn)
    return Detection(
        n_ref,
        n_pred,
        tp,
        fp,
        fn,
        sensitivity,
        precision,
        _fill(rule.f1, f1),
        np.flatnonzero(scored_ref),
        ref_found,
    )


def _large(volumes: NDArray[np.floating[Any]], protocol: LesionProtocol) -> BoolArray:
    limit = protocol.min_volume_mm3
    return volumes >= limit * (1 - SLACK) if protocol.keep_equal else volumes > limit * (1 + SLACK)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else NAN


def _fill(rule: float | None, value: float) -> float:
    return value if rule is None else rule


def _harmonic(a: float, b: float) -> float:
    if np.isnan(a) or np.isnan(b):
        return NAN
    return 2 * a * b / (a + b) if a + b else 0.0


def _any_overlap(table: LesionOverlap, protocol: LesionProtocol) -> tuple[BoolArray, BoolArray]:
    ref, pred = np.zeros(table.n_ref, bool), np.zeros(table.n_pred, bool)
    ref[table.touch_ref] = True
    pred[table.touch_pred] = True
    return ref, pred


def _coverage(table: LesionOverlap, protocol: LesionProtocol) -> tuple[BoolArray, BoolArray]:
    limit = protocol.threshold * (1 + SLACK)
    return table.ref_covered() > limit, table.pred_covered() > limit


def _best_iou(table: LesionOverlap, protocol: LesionProtocol) -> tuple[BoolArray, BoolArray]:
    return _mark(table, np.flatnonzero(table.iou() >= protocol.threshold * (1 - SLACK)))


def _mark(table: LesionOverlap, pairs: NDArray[np.int64]) -> tuple[BoolArray, BoolArray]:
    ref, pred = np.zeros(table.n_ref, bool), np.zeros(table.n_pred, bool)
    ref[table.ref_index[pairs]] = True
    pred[table.pred_index[pairs]] = True
    return ref, pred


def _greedy(table: LesionOverlap, protocol: LesionProtocol) -> tuple[BoolArray, BoolArray]:
    iou = table.iou()
    ref, pred = np.zeros(table.n_ref, bool), np.zeros(table.n_pred, bool)
    # stable sort: ties go to the lower lesion numbers
    for pair in np.argsort(-iou, kind="stable"):
        if iou[pair] < protocol.threshold * (1 - SLACK):
            break
        i, j = table.ref_index[pair], table.pred_index[pair]
        if not ref[i] and not pred[j]:
            ref[i] = pred[j] = True
    return ref, pred


def _optimal(table: LesionOverlap, protocol: LesionProtocol) -> tuple[BoolArray, BoolArray]:
    iou = table.iou()
    ref, pred = np.zeros(table.n_ref, bool), np.zeros(table.n_pred, bool)
    for pairs in _competing(table, np.flatnonzero(iou >= protocol.threshold * (1 - SLACK))):
        refs, rows = np.unique(table.ref_index[pairs], return_inverse=True)
        preds, columns = np.unique(table.pred_index[pairs], return_inverse=True)
        gain = np.zeros((len(refs), len(preds)))
        gain[rows, columns] = iou[pairs]
        chosen_rows, chosen_columns = linear_sum_assignment(gain, maximize=True)
        real = gain[chosen_rows, chosen_columns] > 0
        ref[refs[chosen_rows[real]]] = True
        pred[preds[chosen_columns[real]]] = True
    return ref, pred


def _competing(table: LesionOverlap, pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split pairs into groups that share no lesion: one matrix of all lesions of a noisy mask doesn't fit into memory."""
    lesions = table.n_ref + table.n_pred
    links = coo_array(
        (np.ones(len(pairs), bool), (table.ref_index[pairs], table.n_ref + table.pred_index[pairs])), (lesions, lesions)
    )
    group = connected_components(links, directed=False)[1][table.ref_index[pairs]]
    order = np.argsort(group, kind="stable")
    return np.split(pairs[order], np.flatnonzero(np.diff(group[order])) + 1) if len(pairs) else []


def _anima(table: LesionOverlap, protocol: LesionProtocol) -> tuple[BoolArray, BoolArray]:
    return _anima_found(table, protocol), _anima_found(table.transposed(), protocol)


def _anima_found(table: LesionOverlap, protocol: LesionProtocol) -> BoolArray:
    """Whether each reference lesion is detected: covered enough, by predicted lesions that lie mostly inside it."""
    covered = table.ref_covered()
    outside = 1 - table.pred_covered()
    found = covered > protocol.threshold * (1 + SLACK)
    # largest overlap first; ties by the lower lesion number, as the stable sort leaves them
    order = np.lexsort((table.pred_index, -table.shared, table.ref_index))
    starts = np.searchsorted(table.ref_index[order], np.arange(table.n_ref + 1))
    for i in np.flatnonzero(found):
        weight = 0.0
        for pair in order[starts[i] : starts[i + 1]]:
            if weight >= protocol.enough_covered * (1 - SLACK):
                break
            if outside[table.pred_index[pair]] > protocol.max_outside * (1 + SLACK):
                found[i] = False
                break
            weight += table.shared[pair] / (covered[i] * table.ref_sizes[i])
    return found


MATCHERS: dict[str, Callable[[LesionOverlap, LesionProtocol], tuple[BoolArray, BoolArray]]] = {
    "any_overlap": _any_overlap,
    "coverage": _coverage,
    "best_iou": _best_iou,
    "one_to_one_greedy": _greedy,
    "one_to_one_optimal": _optimal,
    "anima": _anima,
}
