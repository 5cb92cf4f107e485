"""The short version of `kill_study.py`: one kill in each kind of step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kill_study import KINDS, check


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_tables_are_the_same_after_kills_at_random_moments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, kills=len(KINDS), seed=1)
    told = capsys.readouterr().out
    # a step may end before its kill; most don't
    assert len([line for line in told.splitlines() if line.startswith("killed") and "ended" not in line]) >= 3
    assert "different: none" in told
