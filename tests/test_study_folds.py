"""Folds of data sets in nnU-Net's raw folder that came without any."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.study import read_study, study_jobs
from nnunet_transfer.study.steps import run_job
from tests.nnunet_data import write_blob_dataset
from tests.test_study_steps import write_own_study


@pytest.mark.parametrize(("subjects", "scans"), [(5, 2), (6, 1), (3, 2)], ids=["several", "one each", "few"])
def test_folds_of_a_data_set_without_any_keep_a_subject_together(
    nnunet_folders: Path, subjects: int, scans: int, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"sub-P{i:02d}_ses-{k}" for i in range(subjects) for k in range(scans)]
    raw = nnunet_folders / "raw"
    raw = raw / write_blob_dataset(raw, 11, cases=len(names), shape=(40, 40, 8))
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        for file, name in zip(sorted((raw / folder).iterdir()), names, strict=True):
            file.rename(file.with_name(name + ending))
    study = read_study(write_own_study(nnunet_folders, configuration="2d", plans={"patch_size": [32, 32]}))
    jobs = study_jobs(study)
    for step in ("convert-blobs", "plan-blobs", "preprocess-blobs"):
        run_job(study, jobs[step])
    splits = read_json(nnunet_folders / "preprocessed" / raw.name / "splits_final.json")
    assert len(splits) == 5
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(names)
    both = [{c.split("_")[0] for c in fold["train"]} & {c.split("_")[0] for c in fold["val"]} for fold in splits]
    if subjects < 5:
        assert any(both)
        assert "too few for 5 folds" in caplog.text
    else:
        assert not any(both)
        assert all(fold["val"] and len(fold["train"]) + len(fold["val"]) == len(names) for fold in splits)
    if scans == 1:  # nnU-Net's own
        assert splits == generate_crossval_split(sorted(names), seed=12345, n_splits=5)


@pytest.mark.parametrize(
    ("cases", "labels", "cpus", "step", "said"),
    [
        (3, 1, 1, "preprocess-blobs", r"too few cases \(3\) for nnU-Net's 5 folds"),
        (2, 0, 1, "plan-blobs", "no case .* labelled voxel"),
        (2, 0, 2, "plan-blobs", "no case .* labelled voxel"),
    ],
)
def test_data_of_which_no_folds_or_plans_can_be_made_are_named(
    nnunet_folders: Path, cases: int, labels: int, cpus: int, step: str, said: str
) -> None:
    raw = nnunet_folders / "raw"
    write_blob_dataset(raw, 11, cases=cases, shape=(40, 40, 8), labels=labels)
    resources = {"plan": {"cpus": cpus}}
    study = read_study(
        write_own_study(nnunet_folders, configuration="2d", plans={"patch_size": [32, 32]}, resources=resources)
    )
    for job in study_jobs(study).values():
        if job.name == step:
            with pytest.raises(DataError, match=said):
                run_job(study, job)
            return
        run_job(study, job)
