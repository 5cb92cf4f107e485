"""Short codes for arms whose names are too long for a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import pandas as pd

from nnunet_transfer.comparison.analysis import TargetResult

#: with longer names or more arms, figures use codes
LONGEST_TITLE, MOST_TITLES = 26, 8


def arm_codes(results: Sequence[TargetResult]) -> dict[str, str]:
    """Return a code for every arm, the same in all targets: A1, A2, ..."""
    names = dict.fromkeys(arm.name for result in results for arm in result.arms)
    return {name: f"A{i}" for i, name in enumerate(names, 1)}


def needs_codes(results: Sequence[TargetResult]) -> bool:
    """Whether the arms' names are too long for a figure."""
    titles = {arm.title for result in results for arm in result.arms}
    return len(titles) > MOST_TITLES or max(map(len, titles), default=0) > LONGEST_TITLE


def with_codes(result: TargetResult, codes: dict[str, str]) -> TargetResult:
    """Return the result with codes instead of titles in every table."""
    changed: dict[str, object] = {"arms": tuple(replace(arm, title=codes[arm.name]) for arm in result.arms)}
    for part in fields(result):
        frame = getattr(result, part.name)
        if isinstance(frame, pd.DataFrame) and {"title", "arm"} <= set(frame.columns):
            titles = [codes.get(arm, title) for arm, title in zip(frame["arm"], frame["title"], strict=True)]
            changed[part.name] = frame.assign(title=titles)
    return replace(result, **changed)  # type: ignore[arg-type]
