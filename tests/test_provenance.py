"""`provenance.json`: every training says what it ran on and what it cost, also when it was killed or continued."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, sha256_of, write_json
from nnunet_transfer.sources import load_source
from nnunet_transfer.training import provenance
from tests.pretraining_runs import CPU, Prepared, Run, a_run
from tests.sources import save_random_source

pytestmark = pytest.mark.usefixtures("cheap")
ARM = "nnUNetTrainerT1Segmentation_frozenEncoder_3cases_2epochs_3iterations_seed4"
PRETRAINER = "nnUNetPretrainerSelfSupervised_2epochs_2iterations_seed1"


@pytest.fixture
def run(prepared: Prepared, nnunet_folders: Path) -> Run:
    run = a_run(prepared, "2d", nnunet_folders)
    save_random_source("t1_segmentation", run.preprocessed / f"{run.plans}.json", "2d", labels=2)
    return run


def _written(run: Run, trainer: str) -> dict[str, Any]:
    return read_json(run.output(trainer) / provenance.FILE)


def _train_until(trainer: Any, epoch: int) -> None:
    """Stop as a kill would once `epoch` epochs are done, the last one's checkpoint written."""
    trainer.save_every = 1
    end = trainer.on_epoch_end

    def killed_when_done() -> None:
        end()
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt

    trainer.on_epoch_end = killed_when_done
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    (Path(trainer.output_folder) / "checkpoint_best.pth").unlink(missing_ok=True)


def test_an_arm_says_what_it_ran_on_and_what_it_cost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    run.train(ARM)
    content = _written(run, ARM)
    assert content["finished"] is True
    facts = content["run"]
    assert facts["trainer"] == ARM
    assert (facts["recipe"], facts["cases"], facts["seed"], facts["fold"]) == ("frozenEncoder", 3, 4, 0)
    assert (facts["dataset"], facts["configuration"], facts["plans"]) == (run.dataset, "2d", run.plans)
    assert (facts["training_cases"], facts["validation_cases"]) == (3, 4)
    for key, file in (
        ("plans_sha256", f"{run.plans}.json"),
        ("fingerprint_sha256", "dataset_fingerprint.json"),
        ("splits_sha256", "splits_final.json"),
    ):
        assert facts[key] == sha256_of(run.preprocessed / file), key
    assert facts["source"] == {"name": "t1_segmentation", "sha256": load_source("t1_segmentation").card.sha256}
    assert content["totals"]["epochs_done"] == 2
    assert content["totals"]["iterations_done"] == 6
    assert content["totals"]["gpu_hours"] == 0
    (session,) = content["sessions"]
    assert session["slurm_job"] == "4711"
    assert session["versions"]["torch"] == torch.__version__
    assert None not in [session["versions"][package] for package in ("python", *provenance.PACKAGES)]
    # a Python with torch and nnU-Net loaded has hundreds of megabytes, and a test machine no terabyte
    assert 1e8 < session["peak_memory_bytes"] < 1e12
    assert session["wall_seconds"] > 0


def test_a_pretrainer_and_the_control_arm_have_no_source(run: Run) -> None:
    for trainer in (PRETRAINER, "nnUNetTrainerScratch_1epochs_1iterations"):
        run.train(trainer)
        content = _written(run, trainer)
        assert content["finished"] is True
        assert content["run"]["source"] is None
    assert _written(run, PRETRAINER)["run"]["recipe"] is None


def test_a_killed_training_leaves_a_file_that_says_so_and_resuming_adds_a_session(run: Run) -> None:
    name = ARM.replace("_2epochs", "_3epochs")
    _train_until(run.build(name), 1)
    killed = _written(run, name)
    assert killed["finished"] is False
    assert killed["totals"]["epochs_done"] == 1
    assert killed["totals"]["wall_seconds"] > 0

    source = load_source("t1_segmentation")
    for file in source.folder.iterdir():
        file.unlink()
    source.folder.rmdir()
    run.train(name, continue_training=True)
    content = _written(run, name)
    assert content["finished"] is True
    assert content["run"]["source"] == killed["run"]["source"], "what the source was is known, though it is gone"
    first, second = content["sessions"]
    assert first == killed["sessions"][0]
    assert (second["first_epoch"], second["epochs_done"]) == (1, 3)
    assert second["changed"] == {}
    assert content["totals"]["wall_seconds"] == pytest.approx(first["wall_seconds"] + second["wall_seconds"])


def test_a_continued_training_started_from_the_source_of_then(run: Run) -> None:
    name = ARM.replace("_2epochs", "_3epochs")
    _train_until(run.build(name), 1)
    started = _written(run, name)["run"]["source"]
    save_random_source("t1_segmentation", run.preprocessed / f"{run.plans}.json", "2d", labels=2, seed=9)
    assert load_source("t1_segmentation").card.sha256 != started["sha256"]
    run.train(name, continue_training=True)
    content = _written(run, name)
    assert content["run"]["source"] == started
    assert content["sessions"][-1]["changed"] == {}


def test_other_plans_in_a_later_session_are_noticed(run: Run) -> None:
    _train_until(run.build(PRETRAINER), 1)
    before = _written(run, PRETRAINER)["run"]["plans_sha256"]
    plans = run.preprocessed / f"{run.plans}.json"
    write_json(plans, read_json(plans) | {"note": "edited"})
    run.train(PRETRAINER, continue_training=True)
    content = _written(run, PRETRAINER)
    assert content["sessions"][-1]["changed"] == {"plans_sha256": before}
    assert content["run"]["plans_sha256"] == sha256_of(plans)


def test_a_new_training_in_the_same_folder_starts_a_new_record(run: Run) -> None:
    for _ in range(2):
        run.train(PRETRAINER)
    assert len(_written(run, PRETRAINER)["sessions"]) == 1


@pytest.mark.parametrize(
    "spoilt", ["", "{", "[]", '{"sessions": []}', '{"run": {}, "sessions": [{"gpus": 1}]}', '{"run": 3, "sessions": 4}']
)
def test_an_unreadable_earlier_file_is_put_aside_with_one_line(
    spoilt: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / provenance.FILE
    path.write_text(spoilt, encoding="utf-8")
    provenance.Recorder(tmp_path, {"seed": 1}, epoch=3, device=CPU).update(4)
    assert (tmp_path / provenance.ASIDE).read_text(encoding="utf-8") == spoilt
    (message,) = [record.getMessage() for record in caplog.records]
    assert provenance.ASIDE in message
    assert "\n" not in message
    assert [session["first_epoch"] for session in read_json(path)["sessions"]] == [3]


def test_a_file_that_can_not_be_written_is_one_line_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance, "write_json", full)
    recorder = provenance.Recorder(tmp_path, {}, epoch=0, device=CPU)
    recorder.update(1)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / provenance.FILE} can't be written (No space left on device); the training goes on"
    ]


def test_totals_count_each_processs_gpu_and_say_unknown_where_a_session_does_not_know() -> None:
    session = {"wall_seconds": 1800.0, "gpus": 2, "energy_joules": 5.0, "peak_memory_bytes": 7, "epochs_done": 4}
    first = session | {"peak_gpu_memory_bytes": None}
    second = session | {"gpus": 1, "peak_gpu_memory_bytes": 3, "epochs_done": 6}
    both = provenance.totals([first, second], 250)
    assert both["gpu_hours"] == pytest.approx(1.5)
    assert both["energy_joules"] == pytest.approx(10)
    assert (both["peak_memory_bytes"], both["peak_gpu_memory_bytes"]) == (7, 3)
    assert both["iterations_done"] == 1500
    assert provenance.totals([first, second | {"energy_joules": None}], 250)["energy_joules"] is None


def test_energy_is_the_counters_rise_and_unknown_when_the_device_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5_000, 12_500])
    monkeypatch.setattr(provenance, "_energy_counter", lambda _: lambda: next(readings))
    meter = provenance.EnergyMeter(SimpleNamespace(type="cuda"))
    assert meter.joules() == pytest.approx(7.5)
    assert meter.joules() is None


def test_energy_is_unknown_without_a_gpu() -> None:
    assert provenance.EnergyMeter(CPU).joules() is None


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_git_state_is_that_of_the_checkout(tmp_path: Path) -> None:
    file = tmp_path / Path(provenance.__file__).name
    file.write_text("a = 1\n", encoding="utf-8")
    assert provenance.git_state(tmp_path) is None
    _git(tmp_path, "init")
    assert provenance.git_state(tmp_path) is None, "a file that git doesn't know, as in a .venv inside a checkout"
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "Start")
    clean = provenance.git_state(tmp_path)
    assert clean is not None
    assert clean["dirty"] is False
    assert len(clean["commit"]) == 40
    file.write_text("a = 2\n", encoding="utf-8")
    assert provenance.git_state(tmp_path) == clean | {"dirty": True}


def test_without_git_a_training_runs_and_says_nothing_of_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    run.train("nnUNetTrainerScratch_1epochs_1iterations")
    assert _written(run, "nnUNetTrainerScratch_1epochs_1iterations")["sessions"][0]["git"] is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, "12"),
        ({"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}, "12_3"),
    ],
)
def test_slurms_job_is_named(environment: dict[str, str], expected: str | None) -> None:
    assert provenance.slurm_job(environment) == expected


def test_a_training_that_is_refused_leaves_no_record(run: Run) -> None:
    write_json(run.preprocessed / "splits_final.json", [{"train": [], "val": ["case00"]}])
    with pytest.raises((SystemExit, DataError)):
        run.train(PRETRAINER)
    assert not (run.output(PRETRAINER) / provenance.FILE).exists()
