"""A study through a real SLURM cluster of one node, this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nnunet_transfer.study import read_study, state, study_jobs
from tests.studies import RESUMED, done, run_here, tables, write_small_study

SCRIPT = Path(__file__).with_name("cluster.sh")
#: a cluster without accounting, whose jobs are a few seconds long
PROFILE = {
    "executor": "slurm",
    "slurm-status-command": "squeue",
    "slurm-no-account": True,
    "slurm-init-seconds-before-status-checks": 2,
    "seconds-between-status-checks": 2,
    "latency-wait": 10,
    "default-resources": {"slurm_partition": "cpu"},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running cluster; the folder with its configuration."""
    missing = [tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; run tests/slurm/install.sh as root")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons must be started as root")
    if Path("/etc/slurm/slurm.conf").exists():
        pytest.skip("/etc/slurm/slurm.conf exists: this machine belongs to a cluster")
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install nnunet_transfer[slurm]")
    # sockets and spool folders of daemons don't like pytest's deep folders
    folder = Path("/tmp") / f"nnunet_transfer_slurm_{os.getpid()}"
    subprocess.run([str(SCRIPT), "start", str(folder)], check=True)
    yield folder
    subprocess.run([str(SCRIPT), "stop", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_study_goes_through_sbatch_and_survives_a_kill(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "cluster").mkdir()
    arms = ["scratch", "t1_segmentation"]
    reference = write_small_study(tmp_path / "here", training=RESUMED, arms=arms)
    run_here(reference)
    file = write_small_study(tmp_path / "cluster", training=RESUMED, arms=arms)
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(yaml.safe_dump(PROFILE))
    study = read_study(file)
    command = [sys.executable, "-m", "nnunet_transfer.cli", "study", "run", str(file)]
    command += ["--profile", str(profile), "--jobs", "2"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    victim = None
    while victim is None:
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
        # nnU-Net has just written a checkpoint: half of the training is left
        victim = next(study.folders["nnUNet_results"].glob("Dataset711*/*/fold_*/checkpoint_latest.pth"), None)
    jobs = [job for job in study_jobs(study).values() if job.kind == "finetune"]
    signs = [sign for job in jobs if (sign := state.read_mark(study.folder, job, state.RUNNING))]
    assert signs
    for sign in signs:
        assert sign["cluster_job"]
        subprocess.run(["scancel", "--signal=KILL", "--full", sign["cluster_job"]], check=False)
    output = run.communicate()[0]
    assert run.returncode == 2, output
    assert len(done(file)) < len(study_jobs(study))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert done(file) == set(study_jobs(study))
    assert tables(file) == tables(reference)
    submitted = subprocess.run(["squeue", "-a", "-t", "all", "--noheader"], capture_output=True, text=True, check=True)
    # the study's thirteen steps, and what was killed a second time
    assert len(submitted.stdout.splitlines()) >= len(study_jobs(study)) + len(signs)
