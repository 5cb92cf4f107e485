"""One training under two names is named before the verdict; two trainings are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunet_transfer.comparison import CompareSettings, compare
from nnunet_transfer.comparison.duplicates import same_scores, same_weights
from nnunet_transfer.comparison.results import find_runs, short_titles
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.files import write_json
from tests.comparison_data import DATASET, model_folder, save_mask, validation_folder, write_results
from tests.score_tables import random_study

SCRATCH, T1, NATURAL = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation", "nnUNetTrainerNaturalClassification"
TRAINERS = (SCRATCH, T1, NATURAL, f"{NATURAL}_seed1")


def test_a_folder_copied_under_another_name_is_doubted_in_report_and_terminal(
    nnunet_folders: Path, tmp_path: Path
) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.5})
    settings = CompareSettings(draws=100, tables_only=True)
    first = compare([801], out=tmp_path / "out", settings=settings)
    assert not [notice for notice in first.results[0].notices if "same scores" in notice]
    shutil.copytree(model_folder(nnunet_folders, T1), model_folder(nnunet_folders, NATURAL))
    second = compare([801], out=tmp_path / "out", settings=settings)
    (notice,) = [notice for notice in second.results[0].notices if "same scores" in notice]
    assert "Natural classification and T1 segmentation have the same scores in every case" in notice
    said = " ".join(second.report.read_text(encoding="utf-8").split())
    # before the verdict
    assert said.index(notice) < said.index("highest mean Dice")


def test_only_runs_with_the_same_scores_are_named_whole_or_by_fold() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        _, runs, cases = random_study(rng, PRESETS["atlas_r2"], TRAINERS, folds=3, labels=2, empty=0.2)
        scratch, other = (cases["arm"] == arm for arm in (SCRATCH, T1))
        scores = [c for c in cases.columns if c.startswith("voxels") or c in ("hd95_mm", "nsd")]
        assert not [text for text in same_scores(cases, runs) if "every case" in text and "in fold" not in text]
        for folds in ((1,), (0, 1, 2)):
            inside = cases["fold"].isin(folds)
            copied = cases.copy()
            copied.loc[other & inside, scores] = cases.loc[scratch & inside, scores].to_numpy()
            partly = cases.loc[scratch & inside & (cases["dice"] > 0) & (cases["dice"] < 1), "case"].nunique()
            texts = [text for text in same_scores(copied, runs) if "Scratch" in text and "T1Segmentation" in text]
            assert any("in fold" in text for text in texts) == (len(folds) == 1 and partly >= 2)
            assert any("in fold" not in text for text in texts) == (len(folds) == 3)


def test_networks_that_predict_nothing_are_no_copies(nnunet_folders: Path, tmp_path: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.0, T1: 0.0, NATURAL: 0.5})
    result = compare([801], out=tmp_path / "out", settings=CompareSettings(draws=100, tables_only=True)).results[0]
    assert not [notice for notice in result.notices if "same scores" in notice]


def test_one_fold_that_was_copied_is_named(nnunet_folders: Path, tmp_path: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.5})
    shutil.rmtree(validation_folder(nnunet_folders, T1, 1))
    shutil.copytree(validation_folder(nnunet_folders, SCRATCH, 1), validation_folder(nnunet_folders, T1, 1))
    result = compare([801], out=tmp_path / "out", settings=CompareSettings(draws=100, tables_only=True)).results[0]
    (notice,) = [notice for notice in result.notices if "same scores" in notice]
    assert notice.startswith("Doubtful: in fold 1, Scratch and T1 segmentation have the same scores")


@pytest.mark.parametrize(("trainers", "doubtful"), [((T1, NATURAL), True), ((T1, f"{T1}_sawtooth"), False)])
def test_arms_of_one_source_are_doubted_unless_they_say_so(
    nnunet_folders: Path, trainers: tuple[str, str], doubtful: bool
) -> None:
    loaded = {"source": "mine", "sha256": "a" * 64, "task": "segmentation", "domain": "t1"}
    for trainer in trainers:
        save_mask(np.ones((2, 2, 2)), validation_folder(nnunet_folders, trainer, 0) / "sub-01.nii.gz")
        write_json(model_folder(nnunet_folders, trainer) / "fold_0" / "transfer_report.json", loaded)
    runs = short_titles(find_runs(DATASET))
    found = same_weights(runs)
    assert len(found) == doubtful
    assert all(run.arm.title in text for text in found for run in runs)
