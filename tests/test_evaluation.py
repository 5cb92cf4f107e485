"""Scores of arrays against plain loops and other libraries, on random masks."""

from __future__ import annotations

import tracemalloc

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from nnunet_transfer.evaluation.detection import detect
from nnunet_transfer.evaluation.labels import label_set_of
from nnunet_transfer.evaluation.lesions import lesion_overlap
from nnunet_transfer.evaluation.masks import Volume
from nnunet_transfer.evaluation.mean_iou import mean_iou
from nnunet_transfer.evaluation.overlap import confusion, crop_to_foreground, overlap
from nnunet_transfer.evaluation.protocols import PRESETS, LesionProtocol
from nnunet_transfer.evaluation.scores import ScoringSettings, score_case
from nnunet_transfer.evaluation.surface import surface_scores

RANK = {6: 1, 18: 2, 26: 3}
NAN = float("nan")


def random_pair(rng: np.random.Generator, ndim: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two related masks of blobs, some of them empty, lesions from one voxel to hundreds."""
    shape = (14, 12, 10)[:ndim]
    field = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    other = field + 0.6 * ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    cut = rng.choice([0.15, 0.25, 0.4, 9.0], p=[0.4, 0.3, 0.2, 0.1])
    return field > cut * (ndim == 3 or 0.7), other > rng.choice([cut, 0.25, 9.0], p=[0.6, 0.3, 0.1])


def lesions_of(mask: np.ndarray, connectivity: int) -> list[set[int]]:
    """The voxel numbers of each component, by SciPy."""
    structure = ndimage.generate_binary_structure(mask.ndim, min(RANK[connectivity], mask.ndim))
    labels, n = ndimage.label(mask, structure)
    return [set(np.flatnonzero(labels == i + 1).tolist()) for i in range(n)]


def anima_found(refs: list[set[int]], preds: list[set[int]]) -> int:
    """Anima's walk, on sets of voxels: alpha 0.10, beta 0.70, gamma 0.65."""
    everything = set().union(*refs)
    found = 0
    for ref in refs:
        covered = sum(len(ref & p) for p in preds)
        if covered / len(ref) <= 0.10:
            continue
        weight, good = 0.0, True
        for pred in sorted(preds, key=lambda p: -len(ref & p)):
            if weight >= 0.65:
                break
            if len(pred - everything) / len(pred) > 0.70:
                good = False
                break
            weight += len(ref & pred) / covered
        found += good
    return found


def iou(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def plain_counts(refs: list[set[int]], preds: list[set[int]], rule: str) -> tuple[int, int]:
    """Detected reference lesions and matched predicted lesions, by loops over sets of voxels."""
    if rule == "any_overlap":
        return sum(any(r & p for p in preds) for r in refs), sum(any(r & p for r in refs) for p in preds)
    if rule == "best_iou":
        return (
            sum(any(iou(r, p) >= 0.25 for p in preds) for r in refs),
            sum(any(iou(r, p) >= 0.25 for r in refs) for p in preds),
        )
    if rule == "anima":
        return anima_found(refs, preds), anima_found(preds, refs)
    if rule == "one_to_one_optimal":
        gain = np.array([[v if (v := iou(r, p)) >= 0.25 else 0 for p in preds] for r in refs]).reshape(
            len(refs), len(preds)
        )
        rows, columns = linear_sum_assignment(gain, maximize=True)
        n = int((gain[rows, columns] > 0).sum())
        return n, n
    pairs = sorted(((-iou(r, p), i, j) for i, r in enumerate(refs) for j, p in enumerate(preds)))
    used_ref, used_pred = set(), set()
    for value, i, j in pairs:
        if -value >= 0.25 and i not in used_ref and j not in used_pred:
            used_ref.add(i)
            used_pred.add(j)
    return len(used_ref), len(used_pred)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", ["atlas_r2", "isles22", "isles26", "wmh2017", "msseg2016", "shifts_ms", "isbi2015"])
def test_protocols_agree_with_loops_over_sets_of_voxels(name: str, ndim: int) -> None:
    protocol = PRESETS[name]
    rng = np.random.default_rng(7)
    for _ in range(150):
        reference, prediction = random_pair(rng, ndim)
        refs, preds = (lesions_of(m, protocol.connectivity) for m in (reference, prediction))
        smallest = protocol.min_volume_mm3
        refs, preds = ([s for s in lesions if len(s) > smallest] for lesions in (refs, preds))
        found, matched = plain_counts(refs, preds, protocol.matching)
        result = detect(lesion_overlap(reference, prediction, connectivity=protocol.connectivity), protocol, 1.0)
        assert (result.n_ref, result.n_pred) == (len(refs), len(preds))
        assert (result.fn, result.fp) == (len(refs) - found, len(preds) - matched)
        assert result.detected.sum() == found
        if refs and preds:
            assert result.sensitivity == pytest.approx(found / len(refs))
            if protocol.f1 == "harmonic":
                a, b = found / len(refs), matched / len(preds)
                assert result.f1 == pytest.approx(2 * a * b / (a + b) if a + b else 0)
            else:
                tp = matched if protocol.f1 == "prediction" else found
                assert result.f1 == pytest.approx(tp / (tp + (result.fp + result.fn) / 2))


def test_optimal_matching_agrees_with_an_assignment_over_all_pairs() -> None:
    rng = np.random.default_rng(5)
    optimal = LesionProtocol("optimal", "", 26, matching="one_to_one_optimal", f1="one_to_one", threshold=0.25)
    for _ in range(40):
        reference, prediction = random_pair(rng)
        refs, preds = (lesions_of(m, 26) for m in (reference, prediction))
        table = lesion_overlap(reference, prediction, connectivity=26)
        assert detect(table, optimal, 1.0).tp == plain_counts(refs, preds, "one_to_one_optimal")[0]


def test_optimal_matching_of_noise_needs_little_memory() -> None:
    """One matrix of all lesions takes 60 MB for these 2744, and 30 GB for those of a volume of 80 voxels each way."""
    noise = np.zeros((28, 28, 28), bool)
    noise[::2, ::2, ::2] = True
    table = lesion_overlap(noise, noise, connectivity=26)
    optimal = LesionProtocol("optimal", "", 26, matching="one_to_one_optimal", f1="one_to_one", threshold=0.25)
    tracemalloc.start()
    try:
        assert detect(table, optimal, 1.0).tp == table.n_ref == 14**3
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_exchanging_the_masks_exchanges_misses_and_false_positives() -> None:
    rng = np.random.default_rng(11)
    for _ in range(20):
        reference, prediction = random_pair(rng)
        for name in ("atlas_r2", "isles26", "msseg2016", "shifts_ms"):
            connectivity = PRESETS[name].connectivity
            there = detect(lesion_overlap(reference, prediction, connectivity=connectivity), PRESETS[name], 1.0)
            back = detect(lesion_overlap(prediction, reference, connectivity=connectivity), PRESETS[name], 1.0)
            assert (there.fp, there.fn) == (back.fn, back.fp)


def test_brats_agrees_with_loops_over_sets_of_voxels() -> None:
    protocol = PRESETS["brats2023"]
    rng = np.random.default_rng(17)
    for _ in range(300):
        reference, prediction = random_pair(rng)
        grown = lesions_of(ndimage.binary_dilation(reference, ndimage.generate_binary_structure(3, 2)), 26)
        voxels = set(np.flatnonzero(reference).tolist())
        preds = lesions_of(prediction, 26)
        scored = [g for g in grown if len(g & voxels) > 2]
        found = sum(any(g & p for p in preds) for g in scored)
        # what touches a lesion too small to be scored counts neither way
        false = sum(not any(g & p for g in grown) for p in preds)
        matched = sum(any(g & p for g in scored) for p in preds)
        table = lesion_overlap(reference, prediction, connectivity=26, dilation=protocol.merge_dilation)
        result = detect(table, protocol, 1.0)
        assert (result.n_ref, result.tp, result.fn) == (len(scored), found, len(scored) - found)
        assert (result.fp, result.n_pred) == (false, false + matched)


def test_brats_merges_close_reference_lesions_and_ignores_small_ones() -> None:
    reference = np.zeros((20, 20, 20), bool)
    reference[2:5, 2:5, 2:5] = True  # two pieces one voxel apart: one lesion
    reference[6:9, 2:5, 2:5] = True
    reference[15, 15, 15:17] = True  # two voxels: not scored
    prediction = np.zeros_like(reference)
    prediction[2:5, 2:5, 2:5] = True
    prediction[15, 15, 15] = True  # touches the small lesion: no false positive
    prediction[15, 2, 2] = True  # touches nothing
    protocol = PRESETS["brats2023"]
    table = lesion_overlap(reference, prediction, connectivity=26, dilation=protocol.merge_dilation)
    result = detect(table, protocol, 1.0)
    assert (result.n_ref, result.n_pred, result.tp, result.fp, result.fn) == (1, 2, 1, 1, 0)


def test_the_rules_in_words_say_which_small_lesions_count() -> None:
    words = {name: protocol.describe() for name, protocol in PRESETS.items()}
    assert words["msseg2016"].endswith("; lesions of at most 3 mm³ are left out")
    assert (
        "; reference lesions of at most 2 mm³ are not scored, nor predicted lesions of any size that"
        in words["brats2023"]
    )
    assert "mm³" not in words["atlas_r2"]


def test_a_limit_of_volume_is_strict_unless_the_protocol_says_otherwise() -> None:
    reference = np.zeros((9, 9, 9), bool)
    reference[0, 0, :3] = True
    table = lesion_overlap(reference, reference, connectivity=6)
    strict = LesionProtocol("strict", "", 6, min_volume_mm3=0.003)
    loose = LesionProtocol("loose", "", 6, min_volume_mm3=0.003, keep_equal=True)
    # 3 voxels of 0.1 mm: 3 x 0.001 mm³ is not exactly 0.003 in floating point
    assert detect(table, strict, 0.1**3).n_ref == 0
    assert detect(table, loose, 0.1**3).n_ref == 1


def surface_by_distance_maps(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...], tolerance: float):
    """HD95 and NSD by SciPy's erosion and distance transform."""
    edge_a, edge_b = (m & ~ndimage.binary_erosion(m, border_value=0) for m in (a, b))
    to_b = ndimage.distance_transform_edt(~edge_b, sampling=spacing)[edge_a]
    to_a = ndimage.distance_transform_edt(~edge_a, sampling=spacing)[edge_b]
    hd95 = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
    within = (to_b <= tolerance).sum() + (to_a <= tolerance).sum()
    return hd95, within / (len(to_a) + len(to_b))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.9, 0.7)])
def test_surface_metrics_agree_with_distance_maps(spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(2)
    for _ in range(25):
        a, b = random_pair(rng)
        found = surface_scores(a, b, spacing, tolerance_mm=1.0, diagonal_mm=50.0)
        if a.any() and b.any():
            expected = surface_by_distance_maps(a, b, spacing, 1.0)
            assert (found.hd95_mm, found.nsd) == pytest.approx(expected)
        elif a.any() or b.any():
            assert (found.hd95_mm, found.nsd) == (50.0, 0.0)
        else:
            assert np.isnan([found.hd95_mm, found.nsd]).all()


def test_cropping_changes_no_surface_metric() -> None:
    a, b = np.zeros((2, 30, 30, 30), bool)
    a[10:15, 10:15, 10:15] = True
    b[11:17, 10:15, 9:14] = True
    whole = surface_scores(a, b, (1, 1, 2), tolerance_mm=1, diagonal_mm=9)
    box = np.s_[10:17, 10:15, 9:15]
    assert surface_scores(a[box], b[box], (1, 1, 2), tolerance_mm=1, diagonal_mm=9) == whole


def test_overlap_of_labels_and_regions_agrees_with_loops() -> None:
    rng = np.random.default_rng(3)
    for values, ignore in (((1,), frozenset()), ((2, 3), frozenset()), ((1, 3), frozenset({4}))):
        reference, prediction = rng.integers(0, 5, (2, 6, 7, 8))
        reference[:2] = prediction[:2] = 0
        counts = overlap(confusion(crop_to_foreground(reference, prediction)), values, ignore)
        keep = ~np.isin(reference, list(ignore))
        a, b = np.isin(reference, values) & keep, np.isin(prediction, values) & keep
        assert (counts.tp, counts.fp, counts.fn) == ((a & b).sum(), (b & ~a).sum(), (a & ~b).sum())
        assert counts.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert counts.iou == pytest.approx((a & b).sum() / (a | b).sum())


def test_wmh_leaves_out_other_pathology() -> None:
    reference, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    reference[1:3, 1:3, 1:3] = 1
    reference[6:8, 6:8, 6:8] = 2
    prediction[1:3, 1:3, 1:3] = prediction[6:8, 6:8, 6:8] = 1
    volumes = [Volume(m, (1, 1, 1), np.eye(4)) for m in (reference, prediction)]
    settings = ScoringSettings((PRESETS["wmh2017"], PRESETS["isles22"]), surface=False)
    row = score_case(*volumes, label_set_of((1,)), settings).cases[0]
    assert row["wmh2017_f1"] == 1
    assert row["isles22_fp"] == 1


def test_the_table_of_lesions_has_volume_coverage_and_best_iou() -> None:
    reference, prediction = np.zeros((2, 12, 12, 12), np.uint8)
    reference[1:3, 1:3, 1:3] = 1
    reference[8:10, 8:10, 8:10] = 1
    prediction[1:3, 1:3, 1:2] = 1
    volumes = [Volume(m, (2, 1, 1), np.diag([1, 1, 2, 1.0])) for m in (reference, prediction)]
    rows = score_case(*volumes, label_set_of((1,)), ScoringSettings((PRESETS["atlas_r2"],))).lesions
    assert [(r["volume_mm3"], r["detected"], r["coverage"], r["best_iou"]) for r in rows] == [
        (16.0, True, 0.5, 0.5),
        (16.0, False, 0.0, 0.0),
    ]


def test_the_three_kinds_of_miou_differ_where_a_class_is_rare() -> None:
    rows = [("a", "x", 90, 10, 0), ("a", "y", 1, 1, 2), ("b", "x", 30, 0, 30), ("b", "y", 0, 0, 0)]
    cases = pd.DataFrame(rows, columns=["case", "label", "voxels_tp", "voxels_fp", "voxels_fn"])
    cases["iou"] = cases["voxels_tp"] / cases[["voxels_tp", "voxels_fp", "voxels_fn"]].sum(axis=1)
    found = mean_iou(cases)
    # IoU: x 0.9 and 0.5, y 0.25 and none
    assert found.over_cases == pytest.approx(((0.9 + 0.25) / 2 + 0.5) / 2)
    assert found.over_classes == pytest.approx(((0.9 + 0.5) / 2 + 0.25) / 2)
    assert found.pooled == pytest.approx((120 / 160 + 1 / 4) / 2)
    # a second seed of a case does not double the case
    seeds = pd.concat([cases.assign(seed=0), cases[cases["case"] == "a"].assign(seed=1)])
    assert mean_iou(seeds).over_cases == pytest.approx(found.over_cases)


@st.composite
def masks_in_an_image(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of a few boxes each, thin, flat, of one voxel or at the border, in a 2D, thin or 3D image."""
    shape = draw(st.sampled_from([(1, 9, 11), (2, 9, 8), (7, 8, 9), (9, 1, 7)]))
    masks = []
    for _ in range(2):
        mask = np.zeros(shape, bool)
        for _ in range(draw(st.integers(1, 3))):
            start = [draw(st.integers(0, n - 1)) for n in shape]
            size = [draw(st.sampled_from([1, 1, 2, n])) for n in shape]
            mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
        masks.append(mask)
    return masks[0], masks[1]


@hypothesis.given(
    masks_in_an_image(), st.tuples(*[st.sampled_from([1, 2, 3])] * 3), st.tuples(*[st.integers(0, 3)] * 3)
)
@hypothesis.settings(max_examples=150)
def test_surface_scores_are_those_of_the_whole_image(
    masks: tuple[np.ndarray, np.ndarray], spacing: tuple[int, ...], padding: tuple[int, ...]
) -> None:
    # an axis of length 1 stays one: padding it would make another image of it
    margins = [(p, p) if n > 1 else (0, 0) for p, n in zip(padding, masks[0].shape, strict=True)]
    reference, prediction = (np.pad(mask, margins) for mask in masks)
    flat = tuple(axis for axis, n in enumerate(reference.shape) if n == 1)
    steps = tuple(float(s) for axis, s in enumerate(spacing) if axis not in flat)
    expected = surface_by_distance_maps(reference.squeeze(flat), prediction.squeeze(flat), steps, 2.0)
    volumes = [Volume(mask.astype(np.uint8), tuple(map(float, spacing)), None) for mask in (reference, prediction)]
    row = score_case(*volumes, label_set_of((1,)), ScoringSettings(tolerance_mm=2.0)).cases[0]
    assert (row["hd95_mm"], row["nsd"]) == pytest.approx(expected)
