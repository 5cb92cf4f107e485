"""Whole studies, from their first step to the report, and very large ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_transfer.study import read_study, study_jobs
from tests.studies import done, write_small_study
from tests.study_commands import snakemake


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_a_smoke_run_ends_with_a_report_of_its_own(tmp_path: Path) -> None:
    file = write_small_study(tmp_path, sources={}, arms=["scratch"], training={"epochs": 1000}, seeds=[0, 1])
    run = snakemake(file, "--smoke")
    assert run.returncode == 0, run.stderr
    smoke = read_study(tmp_path / "study.smoke.yaml")
    assert f"Report: {smoke.folder / 'report' / 'report.html'}" in run.stdout
    assert "A smoke run" in (smoke.folder / "report" / "report.html").read_text(encoding="utf-8")
    jobs = study_jobs(smoke)
    assert sum(job.kind == "finetune" for job in jobs.values()) == 2
    # where the rest of what Snakemake says went, how to watch the run, and a line per step
    log, watch, *told = run.stderr.splitlines()
    assert str(smoke.folder / "logs" / "snakemake.log") in log
    assert watch.endswith(f"nnunet_transfer study status {smoke.file} --watch")
    assert sorted(line.split()[1] for line in told) == sorted(jobs)
    assert told[-1].startswith(f"{len(jobs)}/{len(jobs)} report done in ")
    # nothing of it is where the long run writes
    assert done(file) == set()
    assert [path.name for path in read_study(file).folder.iterdir()] == ["smoke"]


def test_a_failed_step_is_named_with_its_log(tmp_path: Path) -> None:
    file = write_small_study(tmp_path)
    (next((tmp_path / "ATLAS_2").rglob("*_T1w.nii.gz"))).write_bytes(b"no image")
    run = snakemake(file)
    assert run.returncode == 2
    last = run.stderr.strip().splitlines()[-1]
    assert "step convert-stroke failed" in last
    assert "convert-stroke" in last.split("see ")[1]
    # what doesn't depend on it went on
    assert "pretrain-t1_segmentation" in done(file)


@pytest.mark.slow
def test_ten_thousand_jobs_resolve_in_a_minute_and_a_gigabyte(tmp_path: Path) -> None:
    sources = {f"s{i}": {"pretrain": "t1", "task": "segmentation", "seed": i} for i in range(6)}
    file = write_small_study(
        tmp_path,
        sources=sources,
        recipes=["full", "warmup", "frozenEncoder", "lpft", "sawtooth", "layerwise"],
        seeds=list(range(30)),
        cases=["all", 1, 2, 3],
    )
    assert len(study_jobs(read_study(file))) > 10_000
    code = (
        "import resource, subprocess, sys\n"
        f"run = subprocess.run([sys.executable, '-m', 'nnunet_transfer.cli', 'study', 'run', {str(file)!r}, '--dry-run'])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print('used', used.ru_maxrss, used.ru_utime + used.ru_stime)\n"
        "sys.exit(run.returncode)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "10080" in run.stdout + run.stderr
    kilobytes, seconds = run.stdout.split("used")[1].split()
    assert int(kilobytes) < 1_000_000
    # of the processor's time, which other load doesn't lengthen
    assert float(seconds) < 60
