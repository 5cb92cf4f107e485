"""What a check of `doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: seconds; the first import from a cold network drive takes minutes
IMPORT_TIMEOUT = 300


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, what it found, and the fix."""

    check: str
    state: State
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.state.value:<5} {self.check}: {self.found}" + (f"; {self.fix}" if self.fix else "")
