"""The demo: its step graph, its resuming, and the whole of it in small through the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nnunet_transfer.demo.runner import Step, StepError, run_steps
from nnunet_transfer.demo.study import FULL, QUICK, Budget, demo_steps, run_demo, study_file_content
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.naming import ARMS
from nnunet_transfer.study import read_study


def append(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(text)
    print(f"wrote {text}")


def fail() -> None:
    raise SettingsError("this one can't work")


def vanish() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def steps_of(folder: Path, budget: Budget) -> list[Step]:
    """Return the steps of a demo of this size."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(study_file_content(budget, 0)))
    return demo_steps(read_study(file))


def test_the_full_demo_is_the_papers_study(tmp_path: Path) -> None:
    steps = steps_of(tmp_path, FULL)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("pretrain-") for name in names) == 6
    assert sum(name.startswith("finetune-") for name in names) == 3 * len(ARMS) * 2
    seen: set[str] = set()
    for step in steps:
        assert seen.issuperset(step.needs), f"{step.name} comes before what it needs"
        seen.add(step.name)


def test_the_quick_demo_pretrains_only_what_its_arms_need(tmp_path: Path) -> None:
    names = [step.name for step in steps_of(tmp_path, QUICK)]
    assert [name for name in names if name.startswith("pretrain-")] == ["pretrain-t1_segmentation"]
    assert not any("natural" in name for name in names)


def test_steps_run_in_order_and_only_once(tmp_path: Path) -> None:
    file = tmp_path / "order.txt"
    steps = [
        Step("second", append, {"path": file, "text": "2"}, needs=("first",)),
        Step("first", append, {"path": file, "text": "1"}),
        Step("third", append, {"path": file, "text": "3"}, needs=("second",)),
    ]
    for _ in range(2):
        run_steps(steps, tmp_path / "steps", jobs=2, environment={})
    assert file.read_text() == "123"
    assert (tmp_path / "steps" / "first.log").read_text() == "wrote 1\n"


def test_a_failed_step_is_named_and_what_was_done_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "order.txt"
    steps = [
        Step("good", append, {"path": file, "text": "1"}),
        Step("bad", fail, needs=("good",)),
        Step("after", append, {"path": file, "text": "3"}, needs=("bad",)),
    ]
    with pytest.raises(StepError, match=r"step bad failed: this one can't work; see .*bad\.log"):
        run_steps(steps, tmp_path / "steps", jobs=1, environment={})
    steps[1] = Step("bad", append, {"path": file, "text": "2"}, needs=("good",))
    run_steps(steps, tmp_path / "steps", jobs=1, environment={})
    assert file.read_text() == "123"


def test_a_killed_worker_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="worker was killed during gone"):
        run_steps([Step("gone", vanish)], tmp_path / "steps", jobs=1, environment={})
    assert not list((tmp_path / "steps").glob("*.done"))


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty"):
        run_demo(tmp_path, budget=QUICK)


@pytest.mark.slow
def test_an_interrupted_demo_resumes_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "nnunet_transfer.cli", "demo", "--quick", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        deadline = time.monotonic() + 300
        while not list((out / "steps").glob("pretrain/*.done")):
            assert process.poll() is None, process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    marks = {p.name: p.stat().st_mtime_ns for p in (out / "steps").rglob("*.done")}

    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "go on with --resume" in refused.stderr

    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    after = {p.name: p.stat().st_mtime_ns for p in (out / "steps").rglob("*.done")}
    assert {name: after[name] for name in marks} == marks
    assert "synthetic" in resumed.stdout
    report = out / "report" / "report.html"
    assert str(report) in resumed.stdout
    assert "T1 segmentation" in report.read_text(encoding="utf-8")
    # the demo is a study
    status = subprocess.run(
        [sys.executable, "-m", "nnunet_transfer.cli", "study", "status", str(out / "study.yaml")],
        capture_output=True,
        text=True,
    )
    assert status.stdout.splitlines()[-1].split() == ["all", "13", "-", "-", "-", "-", "13"]
