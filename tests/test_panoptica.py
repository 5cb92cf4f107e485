"""One-to-one matching against panoptica, whose findings `recorded/record_panoptica.py` wrote down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.evaluation.detection import detect
from nnunet_transfer.evaluation.lesions import lesion_overlap
from nnunet_transfer.evaluation.overlap import confusion, crop_to_foreground, overlap
from nnunet_transfer.evaluation.protocols import PRESETS, LesionProtocol
from nnunet_transfer.files import read_json
from tests.recorded.random_masks import random_pair

RECORD: dict[str, Any] = read_json(Path(__file__).parent / "recorded" / "panoptica.json")


def protocol_of(setting: str) -> LesionProtocol:
    connectivity, assignment, threshold = setting.split("_")
    matching = f"one_to_one_{assignment}"
    return LesionProtocol("recorded", "", int(connectivity), matching, "one_to_one", float(threshold))


@pytest.mark.parametrize("setting", RECORD["counts"])
def test_counts_agree_with_panoptica(setting: str) -> None:
    protocol = protocol_of(setting)
    for seed, (tp, fp, fn, dice) in enumerate(RECORD["counts"][setting]):
        reference, prediction = random_pair(seed)
        counts = overlap(confusion(crop_to_foreground(reference, prediction)), (1,))
        # the masks are those that were recorded; panoptica's Dice of two empty masks is not ours
        assert counts.dice == pytest.approx(dice, abs=1e-9) or not reference.any()
        table = lesion_overlap(reference > 0, prediction > 0, connectivity=protocol.connectivity)
        found = detect(table, protocol, 1.0)
        assert (found.tp, found.fp, found.fn) == (tp, fp, fn), f"pair {seed}"


def test_isles26_is_one_of_the_recorded_settings() -> None:
    preset, recorded = PRESETS["isles26"], protocol_of("26_greedy_0.25")
    for field in ("connectivity", "matching", "f1", "threshold", "min_volume_mm3"):
        assert getattr(preset, field) == getattr(recorded, field)
    assert len(RECORD["counts"]["26_greedy_0.25"]) >= 200
