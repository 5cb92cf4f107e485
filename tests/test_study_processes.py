"""The processes of a study's steps."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from nnunet_transfer.study.processes import run_to_end

PROCESSES = 400


def test_the_status_of_a_step_is_its_own_however_many_end_at_once() -> None:
    context = multiprocessing.get_context("forkserver")
    with ThreadPoolExecutor(4) as threads:
        statuses = [
            threads.submit(run_to_end, context.Process(target=sys.exit, args=(i % 4,))) for i in range(PROCESSES)
        ]
    assert Counter(status.result() for status in statuses) == dict.fromkeys(range(4), PROCESSES // 4)
