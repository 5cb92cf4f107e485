"""The demo: what its study is, whose folders it leaves alone, and the whole of it in small through the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.naming import ARMS
from nnunet_transfer.study import Study, read_study, study_jobs
from nnunet_transfer.study.checks import check_study
from nnunet_transfer.study.demo import demo_file, run_demo
from nnunet_transfer.study.estimates import estimate
from tests.studies import done, kill_tree


def demo_study(folder: Path, *, quick: bool = False, seed: int = 0) -> Study:
    """Return the demo's study."""
    file = folder / "study.yaml"
    file.write_text(demo_file(quick=quick, seed=seed), encoding="utf-8")
    return read_study(file)


def test_the_full_demo_is_the_papers_study(tmp_path: Path) -> None:
    study = demo_study(tmp_path)
    jobs = study_jobs(study)
    assert sum(name.startswith("pretrain-") for name in jobs) == 6
    assert sum(name.startswith("finetune-") for name in jobs) == 3 * len(ARMS) * 2
    assert {arm.trainer.recipe for arm in study.arms} == {"fitted"}
    assert not [f.text for f in check_study(study, estimate(study, jobs)) if f.stops]


def test_the_quick_demo_pretrains_only_what_its_arms_need(tmp_path: Path) -> None:
    jobs = study_jobs(demo_study(tmp_path, quick=True))
    assert [name for name in jobs if name.startswith("pretrain-")] == ["pretrain-t1_segmentation"]
    assert not any("natural" in name for name in jobs)


def test_the_seed_is_that_of_data_and_trainings(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    study, other = demo_study(tmp_path), demo_study(tmp_path / "other", seed=5)
    assert {d.seed for d in other.datasets.values()} == {5}
    assert {s.trainer.seed for s in other.sources.values() if s.trainer} == {a.trainer.seed for a in other.arms} == {5}
    assert not {job.digest for job in study_jobs(study).values()} & {job.digest for job in study_jobs(other).values()}


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty"):
        run_demo(tmp_path, quick=True)
    (tmp_path / "study.yaml").write_text("mine")
    for resume, said in ((False, "holds a demo already; continue with --resume"), (True, "is not this demo's")):
        with pytest.raises(SettingsError, match=said):
            run_demo(tmp_path, quick=True, resume=resume)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"thesis.txt": "mine", "study.yaml": "mine"}


#: run by every Python process that finds it: no connection leaves the machine
_OFFLINE = """
import socket
connect = socket.socket.connect
def refuse(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"the demo went online: {address}")
    return connect(self, address)
socket.socket.connect = refuse
"""


@pytest.mark.slow
def test_a_killed_demo_resumes_offline_and_reports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / "sitecustomize.py").write_text(_OFFLINE)
    search = os.pathsep.join(filter(None, (str(tmp_path / "offline"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search}
    out = tmp_path / "demo"
    arguments = ["demo", "--quick", "--output", str(out)]
    command = [sys.executable, "-m", "nnunet_transfer.cli", *arguments]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    while not list(out.glob("steps/pretrain/*.done")):
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    kill_tree(process)
    marks = {p.name: p.stat().st_mtime_ns for p in out.glob("steps/*/*.done")}
    assert len(marks) < len(study_jobs(read_study(out / "study.yaml")))

    assert main(arguments) == 2
    assert "continue with --resume" in capfd.readouterr().err

    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment)
    assert resumed.returncode == 0, resumed.stderr
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("steps/*/*.done")}
    assert {name: after[name] for name in marks} == marks
    report = out / "report" / "report.html"
    assert str(report) in resumed.stdout
    for text in (resumed.stdout, report.read_text(encoding="utf-8")):
        assert "synthetic" in text
        assert "T1 segmentation" in text
    # the demo is a study
    assert done(out / "study.yaml") == set(study_jobs(read_study(out / "study.yaml")))
    assert main(["study", "status", str(out / "study.yaml")]) == 0
    assert capfd.readouterr().out.splitlines()[-1].split() == ["all", "13", "-", "-", "-", "-", "13"]
