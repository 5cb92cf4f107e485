"""A logger that draws nnU-Net's progress plot less often."""

from __future__ import annotations

import time
from typing import Any

#: resolution of nnU-Net's figure, which is 30 by 54 inches; matplotlib's default of 100 takes 1.5 times as long
DPI = 50


class ThrottledPlots:
    """Pass everything to nnU-Net's logger, but redraw `progress.png` at most every `seconds`.

    nnU-Net draws a figure of 30 by 54 inches after each epoch, which takes seconds, longer than a short epoch.
    """

    def __init__(self, logger: Any, seconds: float = 60.0) -> None:
        self._logger = logger
        self._seconds = seconds
        self._drawn = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def plot_progress_png(self, output_folder: str) -> None:
        """Redraw if the last drawing is old enough."""
        if time.monotonic() - self._drawn >= self._seconds:
            self.plot_now(output_folder)

    def plot_now(self, output_folder: str) -> None:
        """Redraw now."""
        import matplotlib

        with matplotlib.rc_context({"savefig.dpi": DPI}):
            self._logger.plot_progress_png(output_folder)
        self._drawn = time.monotonic()
