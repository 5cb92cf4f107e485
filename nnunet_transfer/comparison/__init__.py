"""Compare arms over cross-validation: collect folds, paired statistics, figures, report; no torch."""

from __future__ import annotations

from typing import Any

__all__ = ["CompareSettings", "Comparison", "ReportText", "compare"]


def __getattr__(name: str) -> Any:
    # matplotlib and pandas are imported when a comparison is made, not when a submodule is
    if name in __all__:
        from nnunet_transfer.comparison import pipeline, settings

        return getattr(settings if name == "CompareSettings" else pipeline, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
