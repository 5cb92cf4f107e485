"""Kill a study at random moments, restart it, and compare its tables with those of an undisturbed run.

    python -m tests.faults.kill_study FOLDER [--kills 20] [--seed 0]

Each kind of step is killed in turn with SIGKILL, at a random moment between its start and the time that it took
undisturbed; by turns the step dies before the rest of the run, or all at once. Ends with status 1 if a table differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from nnunet_transfer.study import Job, Study, read_study, state, study_jobs
from tests.studies import RESUMED, tables, write_small_study

KINDS = ("convert", "preprocess", "pretrain", "finetune", "compare")
#: seconds; a step that does not show up within them never will
PATIENCE = 300.0
#: seconds after which Snakemake has seen that a step died
NOTICED = 1.0
#: a step may end before its kill: what is missing is done to another study
MOST_STUDIES = 4


def start(file: Path) -> subprocess.Popen[bytes]:
    """Start `study run`; its output goes to a file beside the study's."""
    command = [sys.executable, "-m", "nnunet_transfer.cli", "study", "run", str(file), "--jobs", "2"]
    with open(file.with_name("run.log"), "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def durations(study: Study, jobs: dict[str, Job]) -> dict[str, float]:
    """Return how long each job of a finished study took, in seconds."""
    return {
        name: float((state.read_mark(study.folder, job, state.DONE) or {"seconds": 0})["seconds"])
        for name, job in jobs.items()
    }


def wait_for(run: subprocess.Popen[bytes], study: Study, jobs: list[Job]) -> tuple[Job, int] | None:
    """Wait until one of the jobs is at work; return it with its process, or None if the run ended before."""
    end = time.monotonic() + PATIENCE
    while run.poll() is None and time.monotonic() < end:
        for job in jobs:
            sign = state.read_mark(study.folder, job, state.RUNNING)
            if sign and psutil.pid_exists(int(sign["process"])) and state.is_alive(study.folder, job):
                return job, int(sign["process"])
        time.sleep(0.05)
    return None


def kill(run: subprocess.Popen[bytes], step: int, *, step_first: bool) -> None:
    """Kill everything that belongs to a run; with `step_first` let Snakemake see a step die before."""
    if step_first and psutil.pid_exists(step):
        os.kill(step, signal.SIGKILL)
        time.sleep(NOTICED)
    if psutil.pid_exists(run.pid):
        parent = psutil.Process(run.pid)
        for victim in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
    run.wait()


def disturb(file: Path, expected: dict[str, float], kills: int, rng: random.Random) -> Counter[str]:
    """Kill and restart a study up to so many times; return the number of kills by kind of step."""
    study = read_study(file)
    jobs = study_jobs(study)
    counts: Counter[str] = Counter()
    for kind in KINDS:
        mine = [job for job in jobs.values() if job.kind == kind]
        for turn in range(-(-kills // len(KINDS))):
            if counts.total() == kills or all(state.is_done(study.folder, job) for job in mine):
                break
            run = start(file)
            found = wait_for(run, study, mine)
            if found is None:
                kill(run, run.pid, step_first=False)
                continue
            job, process = found
            time.sleep(rng.uniform(0, expected[job.name]))
            at_work = state.is_alive(study.folder, job)
            kill(run, process, step_first=turn % 2 == 1)
            counts[kind] += at_work
            print(f"killed {job.name}{'' if at_work else ' (it had just ended)'}", flush=True)
    return counts


def check(folder: Path, kills: int, seed: int) -> bool:
    """Run the study undisturbed, and disturbed as often as it takes; return whether all tables are equal."""
    rng = random.Random(seed)
    (folder / "straight").mkdir(parents=True)
    straight = write_small_study(folder / "straight", training=RESUMED)
    if start(straight).wait() != 0:
        raise SystemExit(f"the undisturbed study failed; see {straight.with_name('run.log')}")
    study = read_study(straight)
    expected = durations(study, study_jobs(study))
    total: Counter[str] = Counter()
    different: list[str] = []
    for number in range(MOST_STUDIES):
        disturbed = folder / f"disturbed{number}"
        disturbed.mkdir()
        file = write_small_study(disturbed, training=RESUMED)
        total += disturb(file, expected, kills - total.total(), rng)
        if start(file).wait() != 0:
            raise SystemExit(f"the study did not recover; see {file.with_name('run.log')}")
        wanted, found = tables(straight), tables(file)
        different += [f"{number}/{name}" for name in wanted if found.get(name) != wanted[name]]
        if total.total() >= kills:
            break
    print(
        f"kills at work: {dict(total)}; tables: {len(tables(straight))}, different: {different or 'none'}", flush=True
    )
    return bool(tables(straight)) and not different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(0 if check(args.folder, args.kills, args.seed) else 1)
