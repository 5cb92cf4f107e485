"""Studies that really run: their steps, states and locks, what stops and kills them, and how they go on."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import psutil
import pytest
import yaml

from nnunet_transfer.cli import main
from nnunet_transfer.errors import StudyError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.locks import locked
from nnunet_transfer.study import read_study, state, study_jobs
from nnunet_transfer.study.engine import run_study
from nnunet_transfer.study.gpus import one_gpu
from nnunet_transfer.study.status import job_states
from nnunet_transfer.study.steps import run_job
from tests.at_an_event.sitecustomize import environment as at_an_event
from tests.studies import done, kill_tree, moved, tables, write_small_study
from tests.study_commands import RUN, changed, is_alive, most_at_a_time, snakemake, start_and_wait_for


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_a_finished_study_says_so(finished_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = read_study(finished_study)
    jobs = study_jobs(study)
    assert done(finished_study) == set(jobs)
    assert main(["study", "status", str(finished_study)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1].split() == ["all", str(len(jobs)), "-", "-", "-", "-", str(len(jobs))]
    assert main(["study", "report", str(finished_study)]) == 0
    text = capsys.readouterr().out
    assert "Scratch" in text
    assert "T1 segmentation" in text
    assert (study.folder / "report/report.html").is_file()
    assert main(["study", "check", str(finished_study)]) == 0
    assert "finetune         4      0   0.0" in capsys.readouterr().out


def test_every_training_started_from_its_source(finished_study: Path) -> None:
    results = read_study(finished_study).folders["nnUNet_results"] / "Dataset711_ATLASR2"
    reports = {path.parent.parent.name.split("__")[0] for path in results.glob("*/fold_*/transfer_report.json")}
    assert reports == {"nnUNetTrainerT1Segmentation_2epochs_3iterations_seed0"}
    assert len(list(results.glob("*/fold_*/checkpoint_final.pth"))) == 4


def test_two_runs_at_a_time_are_refused(finished_study: Path) -> None:
    study = read_study(finished_study)
    with locked(study.folder / state.LOCKS / "run.lock"):
        run = snakemake(finished_study)
    assert run.returncode == 2
    assert "is already running" in run.stderr


@pytest.mark.parametrize(
    ("number", "hearing", "ignored"),
    [
        (signal.SIGINT, "run", ()),
        (signal.SIGTERM, "run", (signal.SIGINT, signal.SIGHUP)),
        (signal.SIGTERM, "snakemake", ()),
        (signal.SIGHUP, "step", ()),
    ],
)
def test_a_stopped_run_stops_its_steps_and_says_so(
    finished_study: Path,
    tmp_path: Path,
    number: signal.Signals,
    hearing: str,
    ignored: Sequence[signal.Signals],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = moved(finished_study, tmp_path)
    changed(file, lambda content: content.update(training={"epochs": 1000, "iterations": 3}))
    process, sign = start_and_wait_for(file, "finetune", ignored=ignored)
    children = psutil.Process(process.pid).children(recursive=True)
    assert sign.process in [child.pid for child in children]
    os.kill({"run": process.pid, "snakemake": children[0].pid, "step": sign.process}[hearing], number)
    assert process.wait() == 130
    assert not [child for child in children if is_alive(child)]
    assert (tmp_path / "run.log").read_text().splitlines()[-1] == "nnunet_transfer study: interrupted"
    main(["study", "status", str(file)])
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told if ":" in line] == ["interrupted"]


def test_a_killed_step_is_named(finished_study: Path, tmp_path: Path) -> None:
    file = moved(finished_study, tmp_path)
    study = read_study(file)
    job = study_jobs(study)["plan-stroke"]
    state.mark(study.folder, job, state.DONE).unlink()
    with locked(study.folders["nnUNet_preprocessed"] / ".Dataset711_ATLASR2.lock"):
        process, sign = start_and_wait_for(file, "plan")
        os.kill(sign.process, signal.SIGKILL)
        assert process.wait() == 2
    last = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert "step plan-stroke was killed (out of memory?); see " in last


def test_a_step_that_outlives_a_killed_run_is_not_done_again(finished_study: Path, tmp_path: Path) -> None:
    file = moved(finished_study, tmp_path)
    study = read_study(file)
    job = study_jobs(study)["plan-stroke"]
    state.mark(study.folder, job, state.DONE).unlink()
    # the step waits for this lock, and so is at work for as long as the test wants
    with locked(study.folders["nnUNet_preprocessed"] / ".Dataset711_ATLASR2.lock"):
        process, sign = start_and_wait_for(file, "plan")
        (snakemake_process,) = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        # Snakemake still runs: so does the study
        with pytest.raises(StudyError, match=rf"is already running \(process {process.pid} on"):
            run_study(study, study_jobs(study), slots=1)
        step = psutil.Process(sign.process)
        snakemake_process.kill()
        psutil.wait_procs([snakemake_process])
        assert is_alive(step)
    psutil.wait_procs([step])
    stamp = state.mark(study.folder, job, state.DONE).stat().st_mtime_ns
    run_study(study, study_jobs(study), slots=1)
    assert done(file) == set(study_jobs(study))
    assert state.mark(study.folder, job, state.DONE).stat().st_mtime_ns == stamp


def test_a_step_waits_for_its_twin_and_then_has_nothing_to_do(
    finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(moved(finished_study, tmp_path))
    job = study_jobs(study)["convert-t1"]
    mark = state.mark(study.folder, job, state.DONE)
    mark.rename(tmp_path / "kept")
    waiting = threading.Event()
    lock = fcntl.flock

    def waited_for(stream: TextIO, operation: int) -> None:
        waiting.set()
        lock(stream, operation)

    with locked(study.folder / state.LOCKS / "convert-t1.lock"):
        monkeypatch.setattr(fcntl, "flock", waited_for)
        twin = threading.Thread(target=run_job, args=(study, job))
        twin.start()
        waiting.wait()
        assert not mark.exists()
        (tmp_path / "kept").rename(mark)
        stamp = mark.stat().st_mtime_ns
    twin.join()
    assert mark.stat().st_mtime_ns == stamp


def test_status_is_true_after_a_crash(finished_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = moved(finished_study, tmp_path)
    study = read_study(file)
    job = study_jobs(study)["convert-stroke"]
    state.mark(study.folder, job, state.DONE).unlink()
    code = f"""
import sys
from pathlib import Path
from nnunet_transfer.study import read_study, state, study_jobs
study = read_study({str(file)!r})
with state.at_work(study.folder, study_jobs(study)["convert-stroke"]):
    print("at work", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    main(["study", "status", str(file)])
    assert "running: convert-stroke: for 0 min on" in capsys.readouterr().out
    process.send_signal(signal.SIGKILL)
    process.wait()
    main(["study", "status", str(file)])
    assert "interrupted: convert-stroke" in capsys.readouterr().out
    # on another machine only the silence tells
    running = state.mark(study.folder, job, state.RUNNING)
    write_json(running, {**read_json(running), "host": "elsewhere"})
    assert state.is_alive(study.folder, job)
    os.utime(running, (time.time() - 2 * state.SILENCE,) * 2)
    assert not state.is_alive(study.folder, job)


def test_status_asks_the_disks_clock(finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(moved(finished_study, tmp_path))
    job = study_jobs(study)["convert-stroke"]
    state.mark(study.folder, job, state.DONE).unlink()
    running = state.mark(study.folder, job, state.RUNNING)
    write_json(running, {"started": time.time(), "host": "elsewhere", "process": 1})
    now = time.time()
    # this machine's clock is an hour fast, then slow
    for skew in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda skew=skew: now + skew)
        assert state.is_alive(study.folder, job)
        (found,) = (s for s in job_states(study, study_jobs(study)) if s.job.name == job.name)
        assert (found.state, "-" in found.detail) == ("running", False)
    monkeypatch.undo()
    os.utime(running, (now - 2 * state.SILENCE,) * 2)
    assert not state.is_alive(study.folder, job)


def test_two_who_ask_at_a_time_get_the_same_answer(finished_study: Path, tmp_path: Path) -> None:
    study = read_study(moved(finished_study, tmp_path))
    job = study_jobs(study)["convert-stroke"]
    running = state.mark(study.folder, job, state.RUNNING)
    write_json(running, {"started": time.time(), "host": socket.gethostname(), "process": 1})
    with open(study.folder / state.LOCKS / f"{job.name}.lock", encoding="utf-8") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another `study status` does for a moment
        assert not state.is_alive(study.folder, job)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"started": "noon", "host": 1}'])
@pytest.mark.parametrize("name", [state.RUNNING, state.FAILED])
def test_damaged_marks(
    finished_study: Path, tmp_path: Path, content: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = moved(finished_study, tmp_path)
    study = read_study(file)
    job = study_jobs(study)["convert-stroke"]
    state.mark(study.folder, job, state.DONE).unlink()
    state.mark(study.folder, job, name).write_text(content)
    assert main(["study", "status", str(file)]) == 0
    assert f"{'interrupted' if name == state.RUNNING else 'failed'}: convert-stroke" in capsys.readouterr().out
    assert main(["study", "check", str(file)]) == 0
    with state.at_work(study.folder, job) as needed:
        assert needed
        assert main(["study", "status", str(file)]) == 0
        assert "running: convert-stroke" in capsys.readouterr().out
    assert done(file) == set(study_jobs(study))


def test_a_step_killed_and_resumed_took_both_times(finished_study: Path, tmp_path: Path) -> None:
    study = read_study(moved(finished_study, tmp_path))
    job = study_jobs(study)["convert-stroke"]
    state.mark(study.folder, job, state.DONE).unlink()
    running = state.mark(study.folder, job, state.RUNNING)
    then = time.time() - 5000
    write_json(running, {"started": then, "host": "elsewhere", "process": 1, "spent": 200})
    os.utime(running, (then + 1000,) * 2)
    with pytest.raises(ZeroDivisionError), state.at_work(study.folder, job):
        _ = 1 / 0
    with state.at_work(study.folder, job):
        pass
    seconds = read_json(state.mark(study.folder, job, state.DONE))["seconds"]
    assert 1199 < seconds < 1260


def test_a_file_system_without_locks(
    finished_study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert main(["study", "run", str(finished_study)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "the file system has no locks" in told


def test_unknown_and_changed_steps(finished_study: Path) -> None:
    from nnunet_transfer.study.steps import find_job

    jobs = study_jobs(read_study(finished_study))
    assert find_job(jobs, "report").kind == "report"
    assert find_job(jobs, jobs["report"].key).kind == "report"
    with pytest.raises(StudyError, match="no step repotr; did you mean report"):
        find_job(jobs, "repotr")
    with pytest.raises(StudyError, match="was changed"):
        find_job(jobs, "report.000000000000")


def test_gpus_are_dealt_out(finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = moved(finished_study, tmp_path)
    changed(file, lambda content: content.update(device="cuda"))
    study = read_study(file)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with one_gpu(study):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        with one_gpu(study):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    # an allocation of a cluster in which steps run side by side, and another one with GPUs of the same numbers
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with one_gpu(study):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        with one_gpu(study):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        monkeypatch.setenv("SLURM_JOB_ID", "2")
        with one_gpu(study):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_profiles(finished_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(finished_study), "--profile", str(tmp_path)]) == 2
    assert "has no config.yaml" in capsys.readouterr().err
    assert main(["study", "run", str(finished_study), "--slurm-profile", str(tmp_path / "slurm")]) == 0
    assert yaml.safe_load((tmp_path / "slurm/config.yaml").read_text())["executor"] == "slurm"
    assert main(["study", "run", str(finished_study), "--jobs", "0"]) == 2


@pytest.mark.slow
def test_a_killed_study_goes_on_ends_like_one_in_one_process_and_then_has_nothing_to_do(
    finished_study: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "größe {x} 'q' #1: v, a=50%"
    folder.mkdir()
    file = write_small_study(folder)
    # a fine-tuning stops after its first checkpoint, and is killed there with all that runs beside it
    pattern = "*/Dataset711_*/fold_*/checkpoint_best.pth"
    with open(folder / "run.log", "wb") as log:
        process = subprocess.Popen(
            [*RUN, str(file), "--jobs", "2"],
            stdout=log,
            stderr=log,
            env=os.environ | at_an_event(pattern, signal.SIGSTOP),
        )
    results = read_study(file).folders["nnUNet_results"]
    while not (best := next(results.glob("Dataset711_*/*/fold_*/checkpoint_best.pth"), None)):
        assert process.poll() is None, (folder / "run.log").read_text()
        time.sleep(0.02)
    kill_tree(process)
    assert not (best.parent / "checkpoint_final.pth").exists()
    run = snakemake(file)
    assert run.returncode == 0, run.stderr
    assert f"nnunet_transfer study status {shlex.quote(str(file))} --watch" in run.stderr
    assert "Report:" in run.stdout
    assert most_at_a_time(file) == 2
    assert tables(file) == tables(finished_study)
    logs = [path.read_text() for path in best.parent.glob("training_log_*.txt")]
    assert sum("Epoch 0 \n" in text for text in logs) == 1
    assert sum("Epoch 1 \n" in text for text in logs) == 1
    before = {path: path.stat().st_mtime_ns for path in (folder / "small/steps").rglob("*.done")}
    again = snakemake(file)
    assert again.returncode == 0
    assert again.stderr.splitlines() == [f"all {len(before)} steps are done"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "small/steps").rglob("*.done")} == before
