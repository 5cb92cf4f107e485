"""Studies that are changed after they ran, and changed back: what is repeated, kept and taken up again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.study import read_study, state, study_jobs
from nnunet_transfer.study.status import job_states
from nnunet_transfer.study.steps import run_job
from nnunet_transfer.study.trainings import ORIGIN_FILE
from tests.studies import done, moved, run_here, tables
from tests.study_commands import changed, snakemake
from tests.study_files import Change, set_, write_study


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_a_changed_arm_reruns_only_itself_and_the_comparison(finished_study: Path, tmp_path: Path) -> None:
    file = moved(finished_study, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "small/steps").rglob("*.done")}
    arms = ["scratch", {"source": "t1_segmentation", "recipes": ["frozenEncoder"]}]
    changed(file, lambda content: content.update(arms=arms))
    run = snakemake(file)
    assert run.returncode == 0, run.stderr
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "small/steps").rglob("*.done")}
    # the marks of the old comparison are gone with its tables; all others stay
    overwritten = {name for name in before if name.startswith(("compare-stroke.", "report."))}
    assert before.keys() - after.keys() == overwritten
    assert all(after[name] == before[name] for name in before.keys() - overwritten)
    new = {name.rsplit(".", 2)[0] for name in after.keys() - before.keys()}
    arm = "finetune-stroke-nnUNetTrainerT1Segmentation_frozenEncoder_2epochs_3iterations_seed0"
    assert new == {f"{arm}-f0", f"{arm}-f1", "compare-stroke", "report"}
    assert "frozenEncoder" in (tmp_path / "small/report/report.html").read_text()
    # the change undone: compared again, without the arm, and nothing else is repeated
    changed(file, lambda content: content.pop("arms"))
    run = snakemake(file)
    assert run.returncode == 0, run.stderr
    assert tables(file) == tables(finished_study)
    last = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "small/steps").rglob("*.done")}
    assert all(last[name] == before[name] for name in before.keys() - overwritten)


def test_a_changed_source_is_trained_anew_and_the_old_one_kept(finished_study: Path, tmp_path: Path) -> None:
    file = moved(finished_study, tmp_path)
    before = tables(file)
    changed(file, lambda content: content["datasets"]["t1"].update(plans={"batch_size": 3}))
    run_here(file)
    after = tables(file)
    assert after["cases.csv"] != before["cases.csv"]
    scratch = [line for line in before["cases.csv"].splitlines() if "Scratch" in line]
    assert [line for line in after["cases.csv"].splitlines() if "Scratch" in line] == scratch
    folder = read_study(file).folder
    kept = list(folder.rglob(".superseded-*"))
    assert {path.name for path in kept} == {
        ".superseded-1-fold_0",
        ".superseded-1-fold_1",
        ".superseded-1-t1_segmentation",
    }


def test_a_change_undone_takes_the_earlier_trainings_back(finished_study: Path, tmp_path: Path) -> None:
    file = moved(finished_study, tmp_path)
    before = tables(file)
    changed(file, lambda content: content["datasets"]["t1"].update(plans={"batch_size": 3}))
    run_here(file)
    assert tables(file)["cases.csv"] != before["cases.csv"]
    changed(file, lambda content: content["datasets"]["t1"].pop("plans"))
    study = read_study(file)
    trained = {name for name, job in study_jobs(study).items() if job.kind in ("pretrain", "finetune")}
    assert trained - done(file) == {name for name in trained if "Scratch" not in name}
    run_here(file)
    assert tables(file) == before
    folds = [path.parent for path in study.folders["nnUNet_results"].glob(f"*/*/fold_*/{ORIGIN_FILE}")]
    assert len(folds) == 5
    for fold in folds:
        assert sum("Epoch 0 \n" in path.read_text() for path in fold.glob("training_log_*.txt")) == 1
    kept = {path.name for path in study.folders["nnUNet_results"].rglob(".superseded-*-fold_*")}
    assert kept == {".superseded-2-fold_0", ".superseded-2-fold_1"}


def test_a_source_of_another_description_is_not_in_the_way(finished_study: Path, tmp_path: Path) -> None:
    """Two descriptions of a source may train in folders of their own, but share the source's name."""
    study = read_study(moved(finished_study, tmp_path))
    registered = study.folders["nnUNet_sources"] / "t1_segmentation"
    card = read_json(registered / "source.json")
    write_json(registered / "source.json", {**card, "extra": {**card["extra"], "configuration": "3d_fullres"}})
    job = study_jobs(study)["pretrain-t1_segmentation"]
    state.mark(study.folder, job, state.DONE).unlink()
    run_job(study, job)
    assert read_json(registered / "source.json")["sha256"] == card["sha256"]
    assert read_json(registered / "source.json")["extra"]["configuration"] == "2d"
    aside = registered.with_name(".superseded-1-t1_segmentation")
    assert read_json(aside / "source.json")["extra"]["configuration"] == "3d_fullres"


def _renamed(part: str, name: str, new: str, *user: str) -> Change:
    """Return a change of the name of a data set or target, and of the place that uses it, if any."""

    def change(content: dict[str, Any]) -> None:
        content[part][new] = content[part].pop(name)
        if user:
            set_(*user, to=new)(content)

    return change


@pytest.mark.parametrize(
    ("change", "overwritten"),
    [
        (set_("comparison", to={"tolerance_mm": 2}), ("compare", "report")),
        (
            set_("datasets", "t1", "plans", to={"batch_size": 2}),
            ("plan-t1", "preprocess-t1", "pretrain", "finetune-stroke-nnUNetTrainerT1", "compare", "report"),
        ),
        (
            set_("sources", "t1_segmentation", "iterations", to=6),
            ("pretrain", "finetune-stroke-nnUNetTrainerT1", "compare", "report"),
        ),
        # another kind of step that writes the same source
        (
            set_("sources", "t1_segmentation", to={"fetch": "openmind_mae"}),
            ("pretrain", "finetune-stroke-nnUNetTrainerT1", "compare", "report"),
        ),
        # the same places under other names
        (
            _renamed("datasets", "t1", "heads", "sources", "t1_segmentation", "pretrain"),
            (
                "convert-t1",
                "plan-t1",
                "preprocess-t1",
                "pretrain",
                "finetune-stroke-nnUNetTrainerT1",
                "compare",
                "report",
            ),
        ),
        (_renamed("targets", "stroke", "lesions"), ("finetune", "report")),
    ],
)
def test_a_step_whose_output_was_overwritten_is_not_done(
    tmp_path: Path, change: Change, overwritten: tuple[str, ...]
) -> None:
    def finish(file: Path) -> set[str]:
        study = read_study(file)
        for job in study_jobs(study).values():
            with state.at_work(study.folder, job):
                pass
        return done(file)

    every = finish(write_study(tmp_path))
    finish(write_study(tmp_path, change))
    assert every - done(write_study(tmp_path)) == {name for name in every if name.startswith(overwritten)}


def test_results_of_others_are_not_touched(tmp_path: Path, finished_study: Path) -> None:
    file = moved(finished_study, tmp_path)
    study = read_study(file)
    job = study_jobs(study)["finetune-stroke-nnUNetTrainerScratch_2epochs_3iterations_seed0-f0"]
    fold = next(study.folders["nnUNet_results"].glob("*/nnUNetTrainerScratch*/fold_0"))
    (fold / ORIGIN_FILE).unlink()
    state.mark(study.folder, job, state.DONE).unlink()
    content = sorted(path.name for path in fold.iterdir())
    with pytest.raises(DataError, match="was not trained by this study"):
        run_job(study, job)
    assert sorted(path.name for path in fold.iterdir()) == content
    found = next(s for s in job_states(study, study_jobs(study)) if s.job.name == job.name)
    assert found.state == "failed"
    assert "was not trained by this study" in found.detail


def test_a_training_killed_while_its_folder_was_made_is_this_studys_own(
    finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunet_transfer.study.trainings import _Training

    study = read_study(moved(finished_study, tmp_path))
    job = study_jobs(study)["finetune-stroke-nnUNetTrainerScratch_2epochs_3iterations_seed0-f0"]
    fold = next(study.folders["nnUNet_results"].glob("*/nnUNetTrainerScratch*/fold_0"))
    shutil.rmtree(fold)
    fold.mkdir()
    (fold / f".tmp12345-{ORIGIN_FILE}").touch()  # what a kill within the first write leaves
    for variable, folder in study.folders.items():
        monkeypatch.setenv(variable, str(folder))
    target = study.targets[job.settings["target"]]
    dataset = study.datasets[target.dataset].number
    training = _Training(study, job, dataset, study.configuration, job.settings["fold"], study.plans_name())
    assert training.folder() == fold


def test_interim_report(finished_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = moved(finished_study, tmp_path)
    changed(file, lambda content: content.update(arms=["scratch", "t1_segmentation", "more"]))
    changed(file, lambda content: content["sources"].update(more={"pretrain": "t1", "task": "self_supervised"}))
    assert main(["study", "report", str(file)]) == 0
    text = capsys.readouterr().out
    assert "not yet: arm nnUNetTrainerTransfer_2epochs_3iterations_seed0@more" in text
    assert "report_so_far" in text
    changed(file, lambda content: content.update(training={"epochs": 7}))
    assert main(["study", "report", str(file)]) == 2
    assert "no target has" in capsys.readouterr().err
