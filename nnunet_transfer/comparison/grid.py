"""Position of the arms in the grid of source task by source domain: one panel per recipe and version of a source."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nnunet_transfer.comparison.metrics import PRIMARY
from nnunet_transfer.comparison.results import DOMAINS, TASKS, Arm

COLUMNS = (
    *("panel", "arm", "title", "source", "task", "domain"),
    *("compared_with", "n_subjects", "difference", "headline_low", "headline_high"),
)


def grid_table(arms: Sequence[Arm], tests: pd.DataFrame) -> pd.DataFrame:
    """Return one row per arm with a known source task and domain; each cell of a panel is used once.

    `panel` is the recipe and any other suffix in the arms' titles. If several sources have the same task and domain, each
    further one gets a separate panel, named after the source and, if that has several versions, its checksum.
    """
    known = tests[tests["metric"] == PRIMARY].set_index("arm")
    taken: set[tuple[str, str, str]] = set()
    rows = []
    for arm in arms:
        if arm.task not in TASKS.values() or arm.domain not in DOMAINS.values() or arm.name not in known.index:
            continue
        panels = (", ".join(filter(None, (variant(arm), source))) for source in ("", arm.source, arm.label))
        panel = next((panel for panel in panels if (panel, arm.task, arm.domain) not in taken), arm.name)
        taken.add((panel, arm.task, arm.domain))
        row = known.loc[arm.name]
        rows.append(
            (
                panel,
                arm.name,
                arm.title,
                arm.source or "",
                arm.task,
                arm.domain,
                row["compared_with"],
                row["n_subjects"],
                row["difference"],
                row["headline_low"],
                row["headline_high"],
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def variant(arm: Arm) -> str:
    """Return the suffixes in an arm's title: recipe, number of cases, epochs; without those that all arms share."""
    return arm.title.partition(" (")[2].partition(")")[0]
