"""Run steps that need one another in worker processes, and remember which are done."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_transfer.errors import TransferError
from nnunet_transfer.files import write_text

#: share of the work that must be done before the time left is told: the workers' imports come first
_ENOUGH_FOR_AN_ESTIMATE = 0.03


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Attributes
    ----------
    name : unique; names the log and the mark of completion
    function : a module-level function
    arguments : its keyword arguments
    needs : names of the steps that must be done before
    weight : expected duration relative to other steps, for the progress bar
    """

    name: str
    function: Callable[..., None]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    weight: float = 1.0


class StepError(TransferError):
    """A step ended with an error; its log says which."""


def run_steps(
    steps: Sequence[Step],
    folder: Path,
    *,
    jobs: int,
    environment: Mapping[str, str],
    description: str = "",
    is_done: Callable[[Step], bool] | None = None,
) -> None:
    """Run all steps that have no mark of completion yet, each as soon as what it needs is done.

    Parameters
    ----------
    folder : gets `<name>.done` when a step has ended well, and `<name>.log` with all it printed
    jobs : number of worker processes; they are started once and import what they need once
    environment : variables set in the workers before they import anything
    is_done : tells whether a step is done, for steps that leave marks of their own; no others are then written

    Raises
    ------
    StepError
        If a step fails or a worker dies. Steps that run meanwhile are stopped.
    ValueError
        If a step needs what is neither a step nor possible before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = is_done or (lambda step: _mark(folder, step).exists())
    done = {step.name for step in steps if known(step)}
    pending = [step for step in steps if step.name not in done]
    if not pending:
        return
    # spawn: the parent may hold threads, and the variables must stand before nnunetv2 is imported
    pool = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(dict(environment),)
    )
    running: dict[Future[None], Step] = {}
    with _Progress(steps, done, description) as progress:
        try:
            while pending or running:
                for step in [s for s in pending if done.issuperset(s.needs)][: jobs - len(running)]:
                    pending.remove(step)
                    running[pool.submit(_run_logged, step, folder)] = step
                    progress.started(step)
                if not running:
                    raise ValueError(f"these steps can never start: {', '.join(step.name for step in pending)}")
                finished, _ = wait(running, timeout=progress.tick, return_when=FIRST_COMPLETED)
                progress.show()
                for future in finished:
                    _raise_for(future, running, folder)
                    step = running.pop(future)
                    if is_done is None:
                        write_text(_mark(folder, step), "done\n")
                    done.add(step.name)
                    progress.finished(step)
            pool.shutdown()
        except BaseException:
            _kill(pool)
            raise


class _Progress:
    """One bar over the weights of all steps, with the time left at the mean speed so far."""

    def __init__(self, steps: Sequence[Step], done: set[str], description: str) -> None:
        total = sum(step.weight for step in steps)
        self.start = time.monotonic()
        self.total = total
        self.done_before = sum(step.weight for step in steps if step.name in done)
        self.bar = tqdm(
            total=total,
            initial=self.done_before,
            desc=description,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} elapsed{postfix}",
            dynamic_ncols=True,
            file=sys.stderr,
        )
        self.latest = ""
        #: seconds between two looks at the clock; in a log file only each step's end is a line
        self.tick = 1.0 if sys.stderr.isatty() else None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def started(self, step: Step) -> None:
        self.latest = step.name

    def finished(self, step: Step) -> None:
        self.bar.update(step.weight)
        self.show()

    def show(self) -> None:
        gained = self.bar.n - self.done_before
        left = "?"
        if gained >= _ENOUGH_FOR_AN_ESTIMATE * self.total:
            seconds = (self.total - self.bar.n) * (time.monotonic() - self.start) / gained
            left = tqdm.format_interval(seconds)
        self.bar.set_postfix_str(f"{left} left: {self.latest}")


def _raise_for(future: Future[None], running: Mapping[Future[None], Step], folder: Path) -> None:
    step = running[future]
    try:
        future.result()
    except BrokenProcessPool:
        # whichever worker died: all futures break, so any of the running steps may be the cause
        names = " or ".join(sorted(step.name for step in running.values()))
        raise StepError(
            f"a worker was killed during {names} (out of memory?); see the logs in {folder}, then run again with "
            f"--resume"
        ) from None
    except StepError as error:
        log = folder / f"{step.name}.log"
        raise StepError(f"step {step.name} failed: {error}; see {log}, then run again with --resume") from None


def _kill(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _mark(folder: Path, step: Step) -> Path:
    return folder / f"{step.name}.done"


def _start_worker(environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """End this worker when its parent is gone, so that it can't write into what a resumed run works on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_logged(step: Step, folder: Path) -> None:
    """Run one step with all its output in its log; raise `StepError` with one line."""
    with (
        open(folder / f"{step.name}.log", "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        handler = logging.StreamHandler(log)
        logging.getLogger().addHandler(handler)
        try:
            step.function(**step.arguments)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            raise StepError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
        finally:
            logging.getLogger().removeHandler(handler)
