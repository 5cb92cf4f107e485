"""Single steps of studies, run in this process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_transfer.errors import DataError, StudyError
from nnunet_transfer.files import write_json
from nnunet_transfer.study import read_study, study_jobs
from nnunet_transfer.study.steps import compare_targets, run_job
from tests.comparison_data import model_folder, write_results
from tests.nnunet_data import two_folds, write_blob_dataset
from tests.sources import save_random_source
from tests.study_files import set_, write_study

CASES = 5


def write_own_study(folder: Path, **changes: Any) -> Path:
    """Write a study of a target in nnU-Net's raw folder and a source with a name of its own; return its file."""
    content = {
        "name": "own",
        "profile": "demo",
        "device": "cpu",
        "folders": {"raw": "raw", "preprocessed": "preprocessed", "results": "results", "sources": "results/sources"},
        "datasets": {"blobs": {"id": 11}},
        "sources": {"mine": {"checkpoint": "mine.pth", "task": "segmentation", "domain": "t1"}},
        "targets": {"blobs": {"dataset": "blobs", "folds": [0]}},
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("configuration", "plans"),
    [
        ("2d", {"patch_size": [32, 32], "spacing": [2.0, 1.5, 1.5]}),
        ("3d_fullres", {"patch_size": [16, 32, 32], "spacing": [2.0, 1.5, 1.5]}),
        ("3d_lowres", {"patch_size": [16, 16, 16]}),
    ],
)
def test_a_source_with_its_own_name_finds_the_preprocessed_data(
    nnunet_folders: Path, configuration: str, plans: dict[str, Any]
) -> None:
    name = write_blob_dataset(nnunet_folders / "raw", 11, cases=CASES, shape=(40, 40, 40))
    study = read_study(write_own_study(nnunet_folders, configuration=configuration, plans={**plans, "batch_size": 2}))
    jobs = study_jobs(study)
    for step in ("convert-blobs", "plan-blobs", "preprocess-blobs"):
        run_job(study, jobs[step])
    folder = nnunet_folders / "preprocessed" / name
    save_random_source("mine", folder / f"{study.plans_name()}.json", configuration)
    run_job(study, jobs["link-blobs-mine"])
    manager = PlansManager(str(folder / f"{study.plans_name('mine')}.json"))
    read = [configuration, *(manager.get_configuration(configuration).next_stage_names or ())]
    for stage in read:
        data = folder / manager.get_configuration(stage).data_identifier
        assert len(list(data.glob("*.pkl"))) == CASES, stage


def test_a_fold_that_the_data_set_lacks_is_not_trained(nnunet_folders: Path) -> None:
    name = write_blob_dataset(nnunet_folders / "raw", 11, cases=4, shape=(8, 8, 6))
    write_json(nnunet_folders / "preprocessed" / name / "splits_final.json", two_folds(4))
    file = write_own_study(nnunet_folders, configuration="2d", targets={"blobs": {"dataset": "blobs", "folds": [0, 2]}})
    study = read_study(file)
    with pytest.raises(StudyError, match=f"{name} has the folds 0 to 1, not 2; correct the folds in the study file"):
        run_job(study, study_jobs(study)["finetune-blobs-nnUNetTrainerScratch-f2"])
    assert not list((nnunet_folders / "results").rglob("study_job.json"))


@pytest.mark.parametrize("origin", ["{}", "[]", "null", '{"digest"'])
def test_a_fold_whose_record_names_no_step_is_not_touched(origin: str, nnunet_folders: Path) -> None:
    name = write_blob_dataset(nnunet_folders / "raw", 11, cases=4, shape=(8, 8, 6))
    write_json(nnunet_folders / "preprocessed" / name / "splits_final.json", two_folds(4))
    study = read_study(write_own_study(nnunet_folders, configuration="2d"))
    fold = nnunet_folders / "results" / name / f"nnUNetTrainerScratch__{study.plans_name()}__2d" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "study_job.json").write_text(origin)
    with pytest.raises(DataError, match="was not trained by this study; move it away"):
        run_job(study, study_jobs(study)["finetune-blobs-nnUNetTrainerScratch-f0"])
    assert (fold / "study_job.json").read_text() == origin


def test_a_synthetic_data_set_is_made_again_with_another_seed(tmp_path: Path) -> None:
    def made(seed: int) -> bytes:
        entry = {"id": 702, "synthetic": "natural", "seed": seed}
        study = read_study(write_study(tmp_path, set_("datasets", "t1", to=entry)))
        run_job(study, study_jobs(study)["convert-t1"])
        return min(study.folders["nnUNet_raw"].glob("Dataset702_*/imagesTr/*.png")).read_bytes()

    first, other = made(0), made(1)
    assert first != other
    assert made(0) == first


def test_arms_of_an_earlier_profile_stay_out_of_the_comparison(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {"nnUNetTrainerScratch": 0.5, "nnUNetTrainerTransfer": 0.9})
    trained = model_folder(nnunet_folders, "nnUNetTrainerTransfer")
    for profile in ("demo", "resnet18"):
        model = trained.with_name(f"nnUNetTrainerTransfer__nnUNetPlans_{profile}_from_mine__2d")
        shutil.copytree(trained, model)
        write_json(model / "plans.json", {"transfer": {"source": "mine"}})
    shutil.rmtree(trained)
    file = write_own_study(
        nnunet_folders,
        configuration="2d",
        datasets={"blobs": {"id": 801}},
        targets={"blobs": {"dataset": "blobs", "folds": [0, 1]}},
        comparison={"draws": 100},
    )
    out = nnunet_folders / "out"
    compare_targets(read_study(file), ["blobs"], out, tables_only=True)
    assert set(pd.read_csv(out / "summary.csv")["arm"]) == {"nnUNetTrainerScratch", "nnUNetTrainerTransfer@mine"}
