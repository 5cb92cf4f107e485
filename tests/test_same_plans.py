"""Arms and seeds with different plans are told apart, and the report claims nothing to be the same that isn't."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.comparison import CompareSettings, Comparison, compare
from nnunet_transfer.comparison.results import find_runs, short_titles
from nnunet_transfer.comparison.same_plans import plans_notices, splits_notices
from nnunet_transfer.comparison.wording import methods
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.files import write_json
from tests.comparison_data import (
    DATASET,
    PLANS,
    QUALITY,
    model_folder,
    validation_folder,
    write_results,
)
from tests.nnunet_data import edit_json

SCRATCH, T1, TRANSFER = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation", "nnUNetTrainerTransfer"
SMALL, LARGE = ({"patch_size": [64, size], "architecture": {"n_stages": 6}} for size in (64, 96))


def compared(folders: Path, **settings: Any) -> Comparison:
    return compare([801], out=folders / "out", settings=CompareSettings(draws=100, tables_only=True, **settings))


def give_plans(folders: Path, trainer: str, plans: str) -> Path:
    """Rename the folder of a training as if it had used these plans."""
    model = model_folder(folders, trainer)
    return model.rename(model.with_name(model.name.replace(f"__{PLANS}__", f"__{plans}__")))


def said_of(made: Comparison) -> tuple[str, str]:
    """Return the text of the terminal and the report's methods."""
    return " ".join(made.report.read_text(encoding="utf-8").split()), methods(made.results)[0]


def test_arms_with_other_plans_are_named_before_the_verdict(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, QUALITY)
    said, paragraph = said_of(compared(nnunet_folders))
    assert "different plans" not in said
    assert "with the same plans, splits and schedule" in paragraph
    give_plans(nnunet_folders, T1, "nnUNetPlans_large")
    said, paragraph = said_of(compared(nnunet_folders))
    notice = (
        "The arms have different plans, so a difference between them may come from the plans: "
        f"{PLANS}: Scratch, Natural classification; nnUNetPlans_large: T1 segmentation."
    )
    assert said.index(notice) < said.index("highest mean Dice")
    assert "with the same splits and schedule" in paragraph


def test_a_configuration_without_results_is_named_with_what_there_is(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, QUALITY)
    with pytest.raises(ComparisonError, match=rf"no results with configuration 3d_lowres; there are: 2d with {PLANS}$"):
        find_runs(DATASET, configuration="3d_lowres")
    with pytest.raises(ComparisonError, match="no results with configuration 2d and plans other; there are: 2d with"):
        find_runs(DATASET, configuration="2d", plans="other")


@pytest.mark.parametrize(
    ("trainer", "plans", "own", "words"),
    [
        # the same architecture and patches, under the name of a source
        (TRANSFER, f"{PLANS}_from_mine", {"2d": {**SMALL, "data_identifier": "elsewhere"}}, ""),
        (TRANSFER, f"{PLANS}_from_mine", {"base": SMALL, "2d": {"inherits_from": "base"}}, ""),
        # the architecture of the source
        (TRANSFER, "nnUNetPlans_from_mine", {"2d": LARGE}, "(patch_size differs)"),
        # planned again between two trainings
        (T1, PLANS, {"2d": {**LARGE, "batch_size": 2}}, "(batch_size and patch_size differ)"),
        # without readable plans, by their names
        (TRANSFER, f"{PLANS}_from_mine", None, ""),
        (TRANSFER, "nnUNetPlans_large_from_mine", None, "plans, so"),
        (T1, "nnUNetPlans_large", {"2d": {"inherits_from": "gone"}}, "plans, so"),
    ],
)
def test_plans_are_the_same_if_they_train_the_same(
    trainer: str, plans: str, own: dict[str, Any] | None, words: str, nnunet_folders: Path
) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, trainer: 0.6})
    write_json(model_folder(nnunet_folders, SCRATCH) / "plans.json", {"configurations": {"2d": SMALL}})
    model = give_plans(nnunet_folders, trainer, plans)
    if own:
        write_json(model / "plans.json", {"transfer": {"source": "mine"}, "configurations": own})
    notices = plans_notices(short_titles(find_runs(DATASET)))
    assert len(notices) == bool(words)
    assert all(words in notice and f"; {plans}: " in notice for notice in notices)


def test_folds_that_changed_between_two_trainings_are_named_before_the_verdict(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.6})

    def record(trainer: str, *checksums: str | None) -> None:
        for fold, checksum in enumerate(checksums):
            facts = {"run": {"splits_sha256": checksum and checksum * 64}}
            write_json(model_folder(nnunet_folders, trainer) / f"fold_{fold}" / "provenance.json", facts)

    # with one version in each fold, both arms had the same training cases; a training without a record says nothing
    for others in (("a", "b"), ("a", None)):
        record(SCRATCH, "a", "b")
        record(T1, *others)
        said, paragraph = said_of(compared(nnunet_folders))
        assert "changed between" not in said
        assert "with the same plans, splits and schedule" in paragraph
    record(T1, "a", "c")
    said, paragraph = said_of(compared(nnunet_folders))
    notice = (
        "Doubtful: splits_final.json changed between trainings of one fold, which may have seen different training cases: "
        f"{'b' * 12}: {SCRATCH} (fold 1); {'c' * 12}: {T1} (fold 1)."
    )
    assert said.index(notice) < said.index("highest mean Dice")
    assert "with the same plans and schedule" in paragraph


def test_different_choices_of_as_many_cases_are_named_before_the_verdict(nnunet_folders: Path) -> None:
    some, others = f"{SCRATCH}_3cases", f"{T1}_3cases"
    write_results(nnunet_folders, {SCRATCH: 0.5, some: 0.4, others: 0.6})
    for trainer, chosen in ((SCRATCH, "a"), (some, "b"), (others, "b")):
        facts = {"run": {"splits_sha256": "d" * 64, "cases_sha256": chosen * 64}}
        write_json(model_folder(nnunet_folders, trainer) / "fold_1" / "provenance.json", facts)
    assert splits_notices(find_runs(DATASET)) == []
    edit_json(model_folder(nnunet_folders, others) / "fold_1" / "provenance.json", run={"cases_sha256": "c" * 64})
    said, paragraph = said_of(compared(nnunet_folders))
    notice = (
        "Doubtful: arms were trained on different cases in one fold, although as many: "
        f"{'b' * 12}: {some} (fold 1); {'c' * 12}: {others} (fold 1)."
    )
    assert said.index(notice) < said.index("highest mean Dice")
    assert "splits" not in paragraph.partition("with the same")[2].partition(".")[0]


def test_predictions_of_an_earlier_network_are_named_before_the_verdict(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.6})
    validation = validation_folder(nnunet_folders, T1, 1)
    predictions = [path.stat().st_mtime for path in validation.glob("*.nii.gz")]

    def begin(seconds: float, first_epoch: int = 0) -> str:
        started = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
        sessions = [{"started": started, "first_epoch": first_epoch}]
        write_json(validation.parent / "provenance.json", {"finished": False, "run": {}, "sessions": sessions})
        return said_of(compared(nnunet_folders))[0]

    assert "older than" not in begin(min(predictions) - 600)
    # the record of a training whose beginning was lost says nothing of predictions before it
    assert "older than" not in begin(max(predictions) + 600, first_epoch=5)
    said = begin(max(predictions) + 600)
    notice = (
        "Doubtful: predictions are older than the training that provenance.json beside them describes, so an earlier network "
        f"made them: {T1} (fold 1)."
    )
    assert said.index(notice) < said.index("highest mean Dice")
    for path in validation.glob("*.nii.gz"):
        os.utime(path, (max(predictions) + 900,) * 2)
    assert "older than" not in begin(max(predictions) + 600)


def test_methods_count_p_values_and_name_each_targets_baseline(nnunet_folders: Path) -> None:
    trainers = {f"{arm}{recipe}": 0.5 for arm in (SCRATCH, T1) for recipe in ("", "_lpft")}
    write_results(nnunet_folders, {name: q + i / 10 for i, (name, q) in enumerate(trainers.items())})
    both = compared(nnunet_folders)
    (one,) = compare(
        [801],
        out=nnunet_folders / "out",
        arms=[f"{SCRATCH}_lpft", f"{T1}_lpft"],
        settings=CompareSettings(draws=100, tables_only=True, baseline=f"{SCRATCH}_lpft"),
    ).results
    paragraph = said_of(both)[1]
    assert "Differences from Scratch with the same recipe are paired" in paragraph
    assert "on Dice, over all targets (2 tests)" in paragraph
    renamed = replace(one, target=replace(one.target, title="Other"))
    paragraph = methods([*both.results, renamed])[0]
    assert "Differences from Scratch with the same recipe (Blobs) or Scratch (Other) are paired" in paragraph
    untested = replace(one, tests=one.tests.assign(p=float("nan")))
    assert (
        "over all targets (0 tests), which the verdicts rest on; and all other metrics (0 tests)"
        in methods([untested])[0]
    )


def test_seeds_with_different_plans_are_not_seeds_of_one_arm(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {f"{arm}_seed{k}": 0.5 + k / 10 for arm in (SCRATCH, T1) for k in (0, 1)})
    for arm in (SCRATCH, T1):
        give_plans(nnunet_folders, f"{arm}_seed1", "nnUNetPlans_large")
    with pytest.raises(ComparisonError, match=f"several plans: {PLANS}, nnUNetPlans_large; choose with -p"):
        compared(nnunet_folders)
    made = compared(nnunet_folders, plans="nnUNetPlans_large")
    assert list(made.table("summary")["n_seeds"]) == [1, 1]
    assert set(made.table("cases")["seed"]) == {1}


def test_seeds_of_a_source_with_different_plans_are_two_arms(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, f"{TRANSFER}_seed0": 0.6, f"{TRANSFER}_seed1": 0.7})
    for seed, plans in enumerate(("nnUNetPlans_a_from_mine", "nnUNetPlans_b_from_mine")):
        model = give_plans(nnunet_folders, f"{TRANSFER}_seed{seed}", plans)
        write_json(model / "plans.json", {"transfer": {"source": "mine"}})
    arms = {run.arm.name: run.arm.title for run in find_runs(DATASET)}
    assert list(arms) == [SCRATCH, *(f"{TRANSFER}@mine@nnUNetPlans_{name}_from_mine" for name in "ab")]
    assert len(set(arms.values())) == 3


@pytest.mark.parametrize("suffix", ["_lpft", "_50epochs"])
def test_methods_name_no_common_schedule_of_several_recipes_or_lengths(suffix: str, nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.6, f"{SCRATCH}{suffix}": 0.5, f"{T1}{suffix}": 0.6})
    assert "with the same plans and splits (" in said_of(compared(nnunet_folders))[1]
