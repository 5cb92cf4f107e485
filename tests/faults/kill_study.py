"""Kill a study at random moments, restart it, and compare its tables with those of an undisturbed run.

    python -m tests.faults.kill_study FOLDER [--kills 20] [--seed 0]

Each kind of step is killed in turn with SIGKILL, at a random moment between its start and the time that it took
undisturbed; by turns the step alone, or everything that belongs to the run. Ends with status 1 if a table differs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from nnunet_transfer.study import Job, Study, marks, read_study, study_jobs
from tests.studies import RESUMED, tables, write_small_study

KINDS = ("convert", "preprocess", "pretrain", "finetune", "compare")
#: seconds; a step that does not show up within them never will
PATIENCE = 300.0


def start(file: Path) -> subprocess.Popen[bytes]:
    """Start `study run`; its output goes to a file beside the study's."""
    command = [sys.executable, "-m", "nnunet_transfer.cli", "study", "run", str(file), "--jobs", "2"]
    with open(file.with_name("run.log"), "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def durations(study: Study, jobs: dict[str, Job]) -> dict[str, float]:
    """Return how long each job of a finished study took, in seconds."""
    return {
        name: float((marks.read_mark(study.folder, job, marks.DONE) or {"seconds": 0})["seconds"])
        for name, job in jobs.items()
    }


def wait_for(run: subprocess.Popen[bytes], study: Study, jobs: list[Job]) -> tuple[Job, int] | None:
    """Wait until one of the jobs is at work; return it with its process, or None if the run ended before."""
    end = time.monotonic() + PATIENCE
    while run.poll() is None and time.monotonic() < end:
        for job in jobs:
            sign = marks.read_mark(study.folder, job, marks.RUNNING)
            if sign and psutil.pid_exists(int(sign["process"])) and marks.is_alive(study.folder, job):
                return job, int(sign["process"])
        time.sleep(0.05)
    return None


def kill(run: subprocess.Popen[bytes], step: int, *, whole_run: bool) -> None:
    """Kill a step alone and wait for the run's end, or kill everything that belongs to the run."""
    victims = []
    if whole_run and psutil.pid_exists(run.pid):
        parent = psutil.Process(run.pid)
        victims = [parent, *parent.children(recursive=True)]
    elif psutil.pid_exists(step):
        victims = [psutil.Process(step)]
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    run.wait()


def disturb(file: Path, expected: dict[str, float], kills: int, seed: int) -> Counter[str]:
    """Kill and restart the study so many times; return the number of kills by kind."""
    rng = random.Random(seed)
    study = read_study(file)
    jobs = study_jobs(study)
    counts: Counter[str] = Counter()
    per_kind = -(-kills // len(KINDS))
    for kind, turn in itertools.product(KINDS, range(per_kind)):
        if counts.total() == kills:
            break
        run = start(file)
        found = wait_for(run, study, [job for job in jobs.values() if job.kind == kind])
        if found is None:
            run.wait()
            continue
        job, process = found
        time.sleep(rng.uniform(0, expected[job.name]))
        at_work = marks.is_alive(study.folder, job)
        kill(run, process, whole_run=turn % 2 == 0)
        counts[kind] += at_work
        print(f"killed {job.name}{'' if at_work else ' (it had just ended)'}", flush=True)
    return counts


def check(folder: Path, kills: int, seed: int) -> bool:
    """Run the study undisturbed and disturbed below `folder`; return whether all tables are equal."""
    (folder / "straight").mkdir(parents=True)
    (folder / "disturbed").mkdir()
    straight = write_small_study(folder / "straight", training=RESUMED)
    if start(straight).wait() != 0:
        raise SystemExit(f"the undisturbed study failed; see {straight.with_name('run.log')}")
    study = read_study(straight)
    file = write_small_study(folder / "disturbed", training=RESUMED)
    counts = disturb(file, durations(study, study_jobs(study)), kills, seed)
    for _ in range(2):  # a step killed alone ends its run with an error; what it needs more is another run
        if start(file).wait() == 0:
            break
    expected, found = tables(straight), tables(file)
    different = [name for name in expected if found.get(name) != expected[name]]
    print(f"kills at work: {dict(counts)}; tables: {len(expected)}, different: {different or 'none'}", flush=True)
    return bool(expected) and not different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(0 if check(args.folder, args.kills, args.seed) else 1)
