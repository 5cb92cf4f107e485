"""The run card says what the records of the trainings say, whatever their files hold."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.results import Arm, Run
from nnunet_transfer.comparison.run_card import ArmCard, arm_cards, data_card, software, started
from nnunet_transfer.files import write_json
from nnunet_transfer.naming import TrainerName
from nnunet_transfer.sources.leakage import donor_warnings
from tests.test_wording import random_result

ARM = Arm("nnUNetTrainerScratch", "Scratch", TrainerName("nnUNetTrainerScratch"))
SESSION = {"started": "2026-01-02T10:00", "updated": "2026-01-02T11:00", "device": "cpu", "versions": {"torch": "2.8"}}
RECORD = {
    "run": {"epochs": 3, "iterations_per_epoch": 4, "recipe": "fitted"},
    "sessions": [SESSION],
    "totals": {"wall_seconds": 1800.0},
}
LOADED = {"source": "t1", "sha256": "a" * 64, "coverage": {"encoder": 0.99}, "warnings": ["odd"]}
PLANS = {"configurations": {"2d": {"inherits_from": "first"}, "first": {"patch_size": [4, 5], "batch_size": 2}}}
#: what may be where text, numbers, lists or objects belong
ANYTHING = (None, 1, "x", [], {}, [1], ["x"], [[]], {"a": 1}, [{}], [None], True)


@pytest.fixture
def result(tmp_path: Path) -> TargetResult:
    """Return the result of one arm trained in two folds, with all its records."""
    folds = {fold: tmp_path / f"fold_{fold}" / "validation" for fold in (0, 1)}
    for validation in folds.values():
        write_json(validation.parent / "provenance.json", RECORD)
        write_json(validation.parent / "transfer_report.json", LOADED)
    write_json(tmp_path / "plans.json", PLANS)
    run = Run(ARM, None, tmp_path, "plans", "2d", folds)
    return replace(random_result(0), runs=(run,))


def card_of(result: TargetResult) -> ArmCard:
    """Return the only arm's card."""
    (card,) = arm_cards([result], {ARM.name: "A1"})
    return card


def test_a_run_card_adds_up_the_trainings(result: TargetResult) -> None:
    card = card_of(result)
    assert (card.hours, card.devices, card.schedule, card.recipe) == (1.0, ("cpu",), "3 × 4", "fitted")
    assert (card.source, card.coverage, card.warnings) == ("t1", {"encoder": 0.99}, ("odd",))
    # a configuration inherits what it doesn't state
    assert data_card(result).patch == "4 × 5, batch 2"
    assert (software([result]), started([result])) == ("torch 2.8", "2026-01-02")


def test_shared_donors_are_counted_but_not_named(result: TargetResult) -> None:
    (warning,) = donor_warnings(["atlas-r001s001", "atlas-r001s002"], "Dataset005_T", ["ATLAS_R001S001"])[:1]
    assert "atlas-r001s001" in warning
    write_json(result.runs[0].folds[0].parent / "transfer_report.json", LOADED | {"warnings": [warning]})
    (told,) = card_of(result).warnings[:1]
    assert told.startswith("1 of the source's 2 lesion donors are in Dataset005_T, too; make the source's data")


def test_arms_that_are_only_in_learning_curves_are_described_last(result: TargetResult, tmp_path: Path) -> None:
    fewer = replace(ARM, name=f"{ARM.name}_3cases", title="Scratch (3cases)", trainer=TrainerName(ARM.name, cases=3))
    validation = tmp_path / "fewer" / "fold_0" / "validation"
    session = SESSION | {"device": "gpu", "versions": {"torch": "2.9"}, "updated": "2026-01-03T10:00"}
    write_json(validation.parent / "provenance.json", RECORD | {"sessions": [session]})
    run = Run(fewer, None, tmp_path / "fewer", "plans", "2d", {0: validation})
    both = replace(result, curve_runs=(run,))
    cards = arm_cards([both], {ARM.name: "A1"})
    assert [(card.code, card.title, card.devices, card.hours) for card in cards] == [
        ("A1", "Scratch", ("cpu",), 1.0),
        ("", "Scratch (3cases)", ("gpu",), 0.5),
    ]
    assert (software([both]), started([both])) == ("torch 2.8 and 2.9", "2026-01-02 to 2026-01-03")


def test_hours_are_those_of_all_trainings_or_unknown(result: TargetResult) -> None:
    (result.runs[0].folds[1].parent / "provenance.json").unlink()
    assert math.isnan(card_of(result).hours)


@pytest.mark.parametrize(
    ("file", "record", "keys"),
    [
        ("fold_0/provenance.json", RECORD, ("run", "sessions", "totals")),
        ("fold_0/provenance.json", RECORD, ("run.epochs", "run.recipe", "totals.wall_seconds")),
        ("fold_0/provenance.json", RECORD, tuple(f"sessions.0.{key}" for key in SESSION)),
        ("fold_0/transfer_report.json", LOADED, ("source", "sha256", "coverage", "coverage.encoder", "warnings")),
        ("plans.json", PLANS, ("configurations", "configurations.2d", "configurations.first")),
        ("plans.json", PLANS, ("configurations.first.patch_size", "configurations.2d.inherits_from")),
    ],
)
def test_records_of_any_content_cost_no_report(
    file: str, record: dict, keys: tuple[str, ...], result: TargetResult
) -> None:
    path = result.runs[0].folder / file
    for content in (*ANYTHING, *(changed(record, key.split("."), value) for key in keys for value in ANYTHING)):
        write_json(path, content)
        assert card_of(result).seeds == "1"
        assert data_card(result).folds == 0
        assert isinstance(software([result]) + started([result]), str)


def changed(record: Any, keys: list[str], value: object) -> Any:
    """Return a record with another value in one place."""
    if not keys:
        return value
    first, *rest = keys
    if isinstance(record, list):
        return [changed(entry, rest, value) if str(i) == first else entry for i, entry in enumerate(record)]
    return record | {first: changed(record[first], rest, value)}
