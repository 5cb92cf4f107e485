"""What `study run` shows while it runs: one line on a terminal, a line per step elsewhere."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from nnunet_transfer.errors import StudyError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.study import Study, read_study, state, study_jobs
from nnunet_transfer.study.engine import run_study
from nnunet_transfer.study.jobs import Job
from nnunet_transfer.study.progress import Progress, duration
from nnunet_transfer.study.state import at_work, mark

CONTENT = {
    "name": "small",
    "profile": "demo",
    "configuration": "2d",
    "device": "cpu",
    "datasets": {"stroke": {"id": 2, "synthetic": "stroke"}},
    "targets": {"stroke": {"dataset": "stroke", "folds": [0, 1]}},
    "arms": ["scratch"],
    "seeds": [0, 1],
    "training": {"epochs": 10, "iterations": 5},
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(CONTENT))
    return read_study(file)


def end(study: Study, job: Job, seconds: float) -> None:
    """Let a step end that took so long."""
    with at_work(study.folder, job):
        pass
    path = mark(study.folder, job, state.DONE)
    write_json(path, {**read_json(path), "seconds": seconds})


def finetunings(jobs: Mapping[str, Job]) -> list[Job]:
    return [job for job in jobs.values() if job.kind == "finetune"]


def test_a_log_file_gets_a_line_per_step_and_each_failure_once(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    jobs = study_jobs(study)
    with pytest.raises(ZeroDivisionError), at_work(study.folder, jobs["plan-stroke"]):
        _ = 1 / 0
    os.utime(mark(study.folder, jobs["plan-stroke"], state.FAILED), (0, 0))
    with caplog.at_level(logging.INFO), Progress(study, jobs, 1) as progress:
        end(study, jobs["convert-stroke"], 3)
        progress.tick()
        progress.tick()
        assert [r.getMessage() for r in caplog.records] == [f"1/{len(jobs)} convert-stroke done in 3 s"]
        with pytest.raises(StudyError), at_work(study.folder, jobs["plan-stroke"]):
            raise StudyError("the disk is full")
        progress.tick()
        progress.tick()
    told = [r.getMessage() for r in caplog.records][1:]
    assert told == [
        f"step plan-stroke failed: the disk is full; see {state.last_log(study.folder, jobs['plan-stroke'])}"
    ]


def test_the_time_left_follows_from_what_trainings_took(study: Study) -> None:
    jobs = study_jobs(study)
    trainings = finetunings(jobs)
    assert len(trainings) == 4
    with Progress(study, jobs, 1) as progress:
        assert progress.seconds_left() is None
        # the first to run tells its pace by its log: 3 of 10 epochs, 20 s each
        with at_work(study.folder, trainings[0]):
            log = state.last_log(study.folder, trainings[0])
            log.parent.mkdir(parents=True)
            log.write_text("x: Epoch 2 \nx: Epoch time: 20.0 s \nx: Epoch 3 \n")
            running = mark(study.folder, trainings[0], state.RUNNING)
            write_json(running, {**read_json(running), "started": time.time() - 60})
            progress.tick()
            assert progress.seconds_left() == pytest.approx(4 * 200 - 60, abs=10)
        end(study, trainings[0], 400)
        progress.tick()
        assert progress.seconds_left() == pytest.approx(3 * 400)
        progress.slots = 2
        assert progress.seconds_left() == pytest.approx(3 * 400 / 2)
        progress.slots = 8  # no training is shorter than itself
        assert progress.seconds_left() == pytest.approx(400)


def test_the_time_left_counts_what_a_training_does_before_its_first_epoch(study: Study) -> None:
    jobs = study_jobs(study)
    first = finetunings(jobs)[0]
    with Progress(study, jobs, 1) as progress, at_work(study.folder, first):
        log = state.last_log(study.folder, first)
        log.parent.mkdir(parents=True)
        log.write_text("x: Epoch 8 \nx: Epoch time: 0.1 s \nx: Epoch 9 \n")
        running = mark(study.folder, first, state.RUNNING)
        write_json(running, {**read_json(running), "started": time.time() - 60})
        progress.tick()
        assert progress.seconds_left() == pytest.approx(3 * 60, abs=10)


def test_a_terminal_gets_one_line(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    jobs = study_jobs(study)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(study, jobs, 1) as progress:
        end(study, jobs["convert-stroke"], 3)
        with at_work(study.folder, finetunings(jobs)[0]):
            progress.tick()
    shown = terminal.getvalue()
    assert shown.count("\n") == 1
    latest = shown.rstrip().rsplit("\r", 1)[-1]
    assert latest.startswith(f"small: 2/{len(jobs)} steps")
    assert f": {finetunings(jobs)[0].name}" in shown


def test_a_finished_study_starts_nothing(
    study: Study, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = study_jobs(study)
    for job in jobs.values():
        end(study, job, 1)
    (study.folder / "comparison" / "stroke").mkdir(parents=True)
    (study.folder / "report").mkdir()
    (study.folder / "report" / "report.html").touch()
    with caplog.at_level(logging.INFO):
        run_study(study, jobs, slots=1)
    assert caplog.messages == [f"all {len(jobs)} steps are done"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (3 * 86400, "3.0 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
