"""Convert cases in this process or in several worker processes."""

from __future__ import annotations

import errno
import itertools
import logging
import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from nnunet_transfer.conversion.case_pictures import convert_picture
from nnunet_transfer.conversion.case_volumes import convert_volumes
from nnunet_transfer.conversion.description import Case
from nnunet_transfer.conversion.job import Job
from nnunet_transfer.conversion.record import Record
from nnunet_transfer.errors import DataError, TransferError
from nnunet_transfer.processes import end_with_parent

logger = logging.getLogger(__name__)

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: queued cases per process: enough to keep it busy, few enough for data sets with a million pictures
_AHEAD = 4


def convert_case(case: Case, job: Job, state: str) -> Record | str:
    """Convert one case; return its record, or the reason why it can't be converted."""
    try:
        return (convert_picture if job.pictures else convert_volumes)(case, job, state)
    except DataError as error:
        return str(error)
    except MemoryError:
        return "MemoryError: not enough memory for this case"
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise  # the error would affect every other case
        return _one_line(error)
    except Exception as error:  # an error in one case must not stop the others
        logger.debug("%s", case.name, exc_info=True)
        return _one_line(error)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def convert_cases(
    cases: Sequence[Case], job: Job, states: Mapping[str, str], processes: int
) -> Iterator[tuple[Case, Record | str]]:
    """Convert cases; yield each with its record, or the reason why not, in the order of completion.

    Raises
    ------
    TransferError
        If a worker process was killed.
    """
    if processes == 1 or len(cases) < 2:
        for case in cases:
            yield case, convert_case(case, job, states[case.name])
        return
    with ProcessPoolExecutor(min(processes, len(cases)), initializer=_start_worker, initargs=(job,)) as pool:
        try:
            yield from _in_turn(pool, cases, states, _AHEAD * processes)
        except BrokenProcessPool:
            raise TransferError(
                "a worker process was killed, perhaps because memory ran out; run again with fewer --processes, "
                "finished cases are kept"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _in_turn(
    pool: ProcessPoolExecutor, cases: Sequence[Case], states: Mapping[str, str], ahead: int
) -> Iterator[tuple[Case, Record | str]]:
    waiting = iter(cases)
    running: dict[Future[Record | str], Case] = {}
    while True:
        for case in itertools.islice(waiting, ahead - len(running)):
            try:
                # Python 3.11's pool would hang on a case that can't be sent
                pickle.dumps(case)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise TransferError(
                    f"{case.name} can't be sent to a worker process ({error}); give --processes 1"
                ) from None
            running[pool.submit(_convert_in_worker, case, states[case.name])] = case
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()


_job: Job  # job of this worker process, sent once instead of with every case


def _start_worker(job: Job) -> None:
    global _job
    _job = job
    end_with_parent()
    # on Ctrl-C, the parent lets running cases finish and starts no others
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _convert_in_worker(case: Case, state: str) -> Record | str:
    return convert_case(case, _job, state)
