"""The suite itself: every process finds the same tests, or the workers that share them refuse to start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_names_of_tests_depend_neither_on_the_clock_nor_on_the_order_of_sets(
    request: pytest.FixtureRequest,
) -> None:
    here = {item.nodeid for item in request.session.items}
    files = sorted({str(item.path) for item in request.session.items})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kolkata"}
    ended = subprocess.run(command, env=environment, cwd=request.config.rootpath, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert not here - set(ended.stdout.splitlines())
