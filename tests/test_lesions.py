"""Lesion protocols on golden cases: values of the challenges' own functions, run unmodified."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_transfer.components import label_components
from nnunet_transfer.conversion.labels import lesion_load
from nnunet_transfer.evaluation.labels import label_set_of
from nnunet_transfer.evaluation.masks import Volume
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.evaluation.scores import ScoringSettings, score_case

EMPTY = np.zeros((16, 16, 16), np.uint8)
NAN = float("nan")


def box(*corners: tuple[tuple[int, ...], tuple[int, ...]]) -> np.ndarray:
    """A mask that is 1 in each box from the first corner up to the second."""
    mask = EMPTY.copy()
    for start, end in corners:
        mask[tuple(slice(s, e) for s, e in zip(start, end, strict=True))] = 1
    return mask


TWO = box(((2, 2, 2), (5, 5, 5)), ((9, 9, 9), (12, 12, 12)))
GOLDEN = {
    "perfect": (TWO, TWO),
    "both empty": (EMPTY, EMPTY),
    "reference empty": (EMPTY, box(((2, 2, 2), (5, 5, 5)))),
    "prediction empty": (TWO, EMPTY),
    "corner contact": (box(((4, 4, 4), (6, 6, 6)), ((6, 6, 6), (8, 8, 8))), box(((4, 4, 4), (6, 6, 6)))),
    "one covers two": (TWO, box(((2, 2, 2), (12, 12, 12)))),
    "split and false positive": (
        box(((2, 2, 2), (12, 5, 5))),
        box(((2, 2, 2), (4, 5, 5)), ((6, 2, 2), (8, 5, 5)), ((10, 2, 2), (12, 5, 5)), ((2, 12, 12), (4, 14, 14))),
    ),
    "one shared voxel": (box(((2, 2, 2), (8, 8, 8))), box(((7, 7, 7), (13, 13, 13)))),
    "tiny miss, tiny false positive": (
        box(((2, 2, 2), (8, 8, 8)), ((12, 12, 12), (14, 13, 13))),
        box(((2, 2, 2), (8, 8, 8)), ((2, 14, 14), (3, 15, 15))),
    ),
}
#: protocol -> F1 per golden case, in order. ATLAS, ISLES'22, WMH and Shifts: the challenges' evaluation code;
#: ISLES'26: panoptica 2.1.7 with the organisers' settings; MSSEG: a port of Anima's C++.
F1 = {
    "atlas_r2": (1, 1, 0, 0, 2 / 3, 1, 2 / 3, 1, 0.5),
    "isles22": (1, 1, 0, 0, 1, 1, 2 / 3, 1, 0.5),
    "isles26": (1, 1, 0, 0, 1, 0, 0, 0, 0.5),
    "wmh2017": (1, 1, 0, 0, 1, 1, 6 / 7, 1, 0.5),
    "shifts_ms": (1, 1, 0, 0, 2 / 3, 0, 0, 0, 0.5),
    "msseg2016": (1, NAN, NAN, 0, 2 / 3, 0, 6 / 7, 0, 1),
}
SENSITIVITY = {"wmh2017": (1, 1, 1, 0, 1, 1, 1, 1, 0.5), "msseg2016": (1, NAN, NAN, 0, 0.5, 0, 1, 0, 1)}
DICE = (1, NAN, 0, 0, 2 / 3, 0.1025, 0.7105, 0.0046, 0.9931)
ISLES26_COUNTS = ((2, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 2), (1, 0, 0), (0, 1, 2), (0, 4, 1), (0, 1, 1), (1, 1, 1))


def score(reference: np.ndarray, prediction: np.ndarray, *names: str, spacing: tuple[float, ...] = (1, 1, 1)) -> dict:
    """Score one binary case with some presets; return its only row."""
    settings = ScoringSettings(tuple(PRESETS[n] for n in names), surface=False)
    volumes = [Volume(m, spacing, np.diag([*spacing[::-1], 1.0])) for m in (reference, prediction)]
    return score_case(*volumes, label_set_of((1,)), settings).cases[0]


@pytest.mark.parametrize("number", range(9), ids=list(GOLDEN))
@pytest.mark.parametrize("protocol", F1)
def test_f1_of_golden_cases(protocol: str, number: int):
    row = score(*list(GOLDEN.values())[number], protocol)
    assert row[f"{protocol}_f1"] == pytest.approx(F1[protocol][number], nan_ok=True)
    if protocol in SENSITIVITY:
        assert row[f"{protocol}_sensitivity"] == pytest.approx(SENSITIVITY[protocol][number], nan_ok=True)


def test_dice_of_golden_cases():
    found = [score(*masks)["dice"] for masks in GOLDEN.values()]
    assert found == pytest.approx(DICE, abs=6e-5, nan_ok=True)


def test_one_to_one_counts_of_golden_cases():
    rows = [score(*masks, "isles26") for masks in GOLDEN.values()]
    assert [(r["isles26_tp"], r["isles26_fp"], r["isles26_fn"]) for r in rows] == list(ISLES26_COUNTS)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 1), (31, 1, 1), (9, 7, 1), (3, 3, 3), (3, 1)])
def test_as_many_lesions_as_fit_are_counted_with_the_widest_neighbourhood(shape: tuple[int, ...]):
    lattice = np.zeros(shape, bool)
    lattice[(slice(None, None, 2),) * len(shape)] = True
    assert label_components(lattice, 26)[1] == lattice.sum()
    assert lesion_load(lattice.view(np.uint8)) == (lattice.sum(), lattice.sum())


def test_single_voxels_in_a_line_are_lesions():
    apart = box(((2, 7, 7), (3, 8, 8)), ((6, 7, 7), (7, 8, 8)))
    row = score(EMPTY, apart, "isles22", "isles26", "wmh2017")
    assert (row["isles22_n_pred"], row["isles26_fp"], row["wmh2017_precision"]) == (2, 2, 0)
