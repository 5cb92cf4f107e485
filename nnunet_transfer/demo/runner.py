"""Run steps that need one another in worker processes, and remember which are done."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys
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
    steps: Sequence[Step], folder: Path, *, jobs: int, environment: Mapping[str, str], description: str = ""
) -> None:
    """Run all steps that have no mark of completion yet, each as soon as what it needs is done.

    Parameters
    ----------
    folder : gets `<name>.done` when a step has ended well, and `<name>.log` with all it printed
    jobs : number of worker processes; they are started once and import what they need once
    environment : variables set in the workers before they import anything

    Raises
    ------
    StepError
        If a step fails or a worker dies. Steps that run meanwhile are stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {step.name for step in steps if _mark(folder, step).exists()}
    pending = [step for step in steps if step.name not in done]
    if not pending:
        return
    total = sum(step.weight for step in steps)
    bar = tqdm(
        total=total,
        initial=total - sum(step.weight for step in pending),
        desc=description,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} elapsed, {remaining} left{postfix}",
        file=sys.stderr,
    )
    # spawn: the parent may hold threads, and the variables must stand before nnunetv2 is imported
    pool = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(dict(environment),)
    )
    running: dict[Future[None], Step] = {}
    try:
        while pending or running:
            for step in [s for s in pending if done.issuperset(s.needs)][: jobs - len(running)]:
                pending.remove(step)
                running[pool.submit(_run_logged, step, folder)] = step
            bar.set_postfix_str(", ".join(step.name for step in running.values()))
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                _raise_for(future, step, folder)
                write_text(_mark(folder, step), "done\n")
                done.add(step.name)
                bar.update(step.weight)
        pool.shutdown()
    except BaseException:
        _kill(pool)
        raise
    finally:
        bar.close()


def _raise_for(future: Future[None], step: Step, folder: Path) -> None:
    log = folder / f"{step.name}.log"
    try:
        future.result()
    except BrokenProcessPool:
        raise StepError(
            f"step {step.name} was killed (out of memory?); see {log}, then run again with --resume"
        ) from None
    except StepError as error:
        raise StepError(f"step {step.name} failed: {error}; see {log}, then run again with --resume") from None


def _kill(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _mark(folder: Path, step: Step) -> Path:
    return folder / f"{step.name}.done"


def _start_worker(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)


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
