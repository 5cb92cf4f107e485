"""Progress of a run from the files on disk: one line on a terminal, or a line per finished step in a log file."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

from tqdm import tqdm

from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.epochs import latest_epoch
from nnunet_transfer.study.estimates import TRAININGS, assumed_seconds, iterations
from nnunet_transfer.study.jobs import KINDS, Job

logger = logging.getLogger(__name__)

UNKNOWN = "time left not known yet"


def duration(seconds: float) -> str:
    """Return a duration with a sensible number of digits."""
    for limit, unit, text in ((90, 1, "{:.0f} s"), (90 * 60, 60, "{:.0f} min"), (48 * 3600, 3600, "{:.1f} h")):
        if seconds < limit:
            return text.format(seconds / unit)
    return f"{seconds / 86400:.1f} days"


class Progress:
    """Reports finished steps and the remaining time.

    Parameters
    ----------
    slots : number of parallel steps
    """

    #: seconds between two updates
    TICK = 2.0

    def __init__(self, study: Study, jobs: Mapping[str, Job], slots: int) -> None:
        self.study, self.jobs, self.slots = study, jobs, slots
        self._by_key = {job.key: job for job in jobs.values()}
        self._seconds: dict[str, float] = {}  # of the steps that are done, by key
        self._failed = self._failures()
        self._running: list[Job] = []
        self._look()
        self.bar = tqdm(
            total=len(jobs),
            initial=len(self._seconds),
            desc=study.name,
            bar_format="{desc}: {n_fmt}/{total_fmt} steps |{bar:20}| {elapsed} elapsed{postfix}",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            file=sys.stderr,
        )
        self.bar.set_postfix_str(self._now())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.tick()
        self.bar.close()

    @property
    def done(self) -> int:
        """Number of steps that are done."""
        return len(self._seconds)

    def tick(self) -> None:
        """Read the disk and report changes."""
        before, ended = self.done, self._look()
        for number, job in enumerate(ended, start=before + 1):
            self.bar.update(1)
            if self.bar.disable:
                took = duration(self._seconds[job.key])
                left = self._left() if number == self.done else UNKNOWN
                told = "" if left == UNKNOWN else f"; {left}"
                logger.info("%d/%d %s done in %s%s", number, len(self.jobs), job.name, took, told)
        for key, when in self._failures().items():
            if self._failed.get(key) != when:
                self._failed[key] = when
                self._tell_failure(self._by_key[key])
        self.bar.set_postfix_str(self._now())

    def _tell_failure(self, job: Job) -> None:
        reason = (state.read_mark(self.study.folder, job, state.FAILED) or {}).get("error", "")
        self.bar.clear()
        logger.error("step %s failed: %s; see %s", job.name, reason, state.last_log(self.study.folder, job))
        self.bar.refresh()

    def _look(self) -> list[Job]:
        """Read new marks; return the jobs that have ended since the last call."""
        ended: list[Job] = []
        running: list[Job] = []
        for name in self._marks():
            key, _, kind = name.rpartition(".")
            if (job := self._by_key.get(key)) is None or key in self._seconds:
                continue
            if kind == state.RUNNING:
                running.append(job)
            elif kind == state.DONE:
                found = (state.read_mark(self.study.folder, job, state.DONE) or {}).get("seconds", 0.0)
                self._seconds[key] = float(found) if isinstance(found, int | float) else 0.0
                ended.append(job)
        self._running = [job for job in running if job.key not in self._seconds]
        return ended

    def _failures(self) -> dict[str, float]:
        """Return the keys of failed steps with the times of their marks."""
        ending, found = f".{state.FAILED}", {}
        for name in self._marks():
            job = self._by_key.get(name.removesuffix(ending)) if name.endswith(ending) else None
            if job is not None:
                with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                    found[job.key] = state.mark(self.study.folder, job, state.FAILED).stat().st_mtime
        return found

    def _marks(self) -> list[str]:
        folders = [self.study.folder / state.STEPS / kind for kind in KINDS]
        return [name for folder in folders if folder.is_dir() for name in os.listdir(folder)]

    def _now(self) -> str:
        """Return the remaining time and the running steps."""
        if not self._running:
            return self._left()
        job = self._running[0]
        more = f" and {len(self._running) - 1} more" if len(self._running) > 1 else ""
        epoch = latest_epoch(self.study, job)
        return f"{self._left()}: {job.name}{f' (epoch {epoch.number} of {epoch.total})' if epoch else ''}{more}"

    def _left(self) -> str:
        if self.done == len(self.jobs):
            return "all done"
        seconds = self.seconds_left()
        return UNKNOWN if seconds is None else f"about {duration(seconds)} left"

    def seconds_left(self) -> float | None:
        """Estimate the duration of the remaining steps; None on a CPU before any training has made progress.

        A training takes its number of iterations at the pace of finished or running trainings, or at the one assumed for a
        GPU. Any other step takes as long as earlier steps of its kind; kinds that haven't run yet are short compared with
        trainings and count as 0.
        """
        paces = {kind: self._pace(kind) for kind in TRAININGS}
        took: dict[str, list[float]] = defaultdict(list)
        for key, seconds in self._seconds.items():
            took[self._by_key[key].kind].append(seconds)
        costs: list[float] = []
        running = {job.key for job in self._running}
        for job in self.jobs.values():
            if job.key in self._seconds:
                continue
            if job.kind in TRAININGS:
                pace = paces[job.kind] or next(filter(None, paces.values()), None)
                cost = iterations(job) * (pace or assumed_seconds(self.study, job))
            else:
                cost = fmean(took[job.kind]) if took[job.kind] else 0.0
            if job.key in running:
                cost = max(0.0, cost - self._elapsed(job))
            costs.append(cost)
        if not any(costs) or math.isnan(sum(costs)):
            return None
        # steps run in parallel if possible, but the total is at least the longest step
        return max(sum(costs) / max(1, min(self.slots, len(costs))), *costs)

    def _pace(self, kind: str) -> float | None:
        """Return the seconds per iteration of a kind of training; None if unknown."""
        done = [self._by_key[key] for key in self._seconds if self._by_key[key].kind == kind]
        if done:
            return sum(self._seconds[job.key] for job in done) / sum(map(iterations, done))
        for job in self._running:
            epoch = latest_epoch(self.study, job) if job.kind == kind else None
            if epoch and epoch.seconds_left:
                # with what came before its first epoch, which is most of a short training
                return (self._elapsed(job) + epoch.seconds_left) / iterations(job)
        return None

    def _elapsed(self, job: Job) -> float:
        sign = state.read_sign(self.study.folder, job)
        return sign.spent + max(0.0, time.time() - sign.started) if sign else 0.0
