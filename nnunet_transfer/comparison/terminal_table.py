"""Output of a comparison in the terminal: one table, and the verdict in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import pandas as pd

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult
from nnunet_transfer.comparison.markup import Column, number
from nnunet_transfer.comparison.verdicts import PRINTED_DECIMALS
from nnunet_transfer.comparison.wording import caveats, sentence

#: characters per line in a column heading
_HEAD_WIDTH = 14
_TEXT_WIDTH = 100
_NOTHING = "-"


def text_table(results: Sequence[TargetResult], left_out: Sequence[str] = ()) -> str:
    """Return a table of the arms' means and differences from the baseline, and the verdict.

    Each lesion protocol has its own column, because F1 depends on the protocol.

    Parameters
    ----------
    left_out : cases that were left out of the comparison, and why
    """
    protocols = list({p.name: p.title for result in results for p in result.protocols}.items())
    head = ["Arm", "Dice", "mIoU (cases)", *(f"lesion F1 {title}" for _, title in protocols)]
    compared = any(len(r.tests) for r in results)
    if compared:
        head += ["Dice difference from the baseline", "95 % interval"]
    groups = [
        (
            f"{r.target.title}: {r.size}",
            [
                _means(row, [name for name, _ in protocols]) + (_differences(r, row) if compared else [])
                for _, row in r.summary.iterrows()
            ],
        )
        for r in results
    ]
    omitted = "\n" + "".join(_filled(f"Left out: {line}.") for line in left_out) if left_out else ""
    return _laid_out(head, groups) + omitted + "".join(_verdict(result) for result in results)


def _verdict(result: TargetResult) -> str:
    """Return the caveats and the outcome in words, as the report begins."""
    text = " ".join([f"{result.target.title}:", *caveats(result), sentence(result)])
    return "\n" + _filled(text)


def _filled(text: str) -> str:
    return textwrap.fill(text, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _means(row: pd.Series, protocols: Sequence[str]) -> list[str]:
    cells = [str(row["title"]), *(_number(row.get(key)) for key in ("dice", "miou_over_cases"))]
    return cells + [_number(row.get(f"{name}_f1")) for name in protocols]


def _differences(result: TargetResult, row: pd.Series) -> list[str]:
    tests = result.tests[result.tests["metric"] == PRIMARY] if len(result.tests) else result.tests
    found = tests[tests["arm"] == row["arm"]] if len(tests) else tests
    if not len(found):
        # with several recipes, each has a baseline; a single arm has none
        serves = row["arm"] in result.baselines.values() and len(result.summary) > 1
        return ["baseline" if serves else _NOTHING, ""]
    test = found.iloc[0]
    low, high = (_number(test[key], sign=True) for key in ("headline_low", "headline_high"))
    interval = _NOTHING if math.isnan(test["headline_low"]) else f"{low} to {high}"
    return [_number(test["difference"], sign=True), interval]


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None or math.isnan(value):
        return _NOTHING
    return number(value, Column("", PRINTED_DECIMALS, sign=sign))


def _laid_out(head: Sequence[str], groups: Sequence[tuple[str, list[list[str]]]]) -> str:
    rows = [row for _, group in groups for row in group]
    heads = [textwrap.wrap(name, _HEAD_WIDTH, break_long_words=False) for name in head]
    widths = [max(map(len, [*lines, *(row[i] for row in rows)])) for i, lines in enumerate(heads)]
    height = max(map(len, heads))
    padded = [[""] * (height - len(lines)) + lines for lines in heads]
    out = [_line(cells, widths) for cells in zip(*padded, strict=True)]
    out.append("  ".join("-" * width for width in widths))
    for title, group in groups:
        out += [title, *(_line(row, widths) for row in group)]
    return "\n".join(out) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
