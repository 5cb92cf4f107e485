"""Short summaries of a conversion before and after it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from nnunet_transfer.conversion.description import Case
from nnunet_transfer.conversion.engine import Outcome
from nnunet_transfer.conversion.participants import class_counts
from nnunet_transfer.conversion.plan import Plan
from nnunet_transfer.conversion.tables import LEFT_OUT
from nnunet_transfer.conversion.tree import LeftOut
from nnunet_transfer.words import counted

_ROWS = 10
_LISTED = 8


def preview(plan: Plan) -> str:
    """Return a table of the first cases, counts of all cases, and what is left out, by reason."""
    training = sum(case.split == "train" for case in plan.cases)
    subjects = len({case.subject or case.name for case in plan.cases})
    counts = (
        f"{plan.folder.name}: {counted(training, 'case')} for training, {len(plan.cases) - training} for testing, "
        f"{counted(subjects, 'subject')}"
    )
    lines = [
        counts,
        *_table(plan.cases),
        *_sites(plan.cases),
        *class_lines(plan),
        *(f"note: {warning}" for warning in plan.warnings),
        *(f"left out: {problem.case}: {problem.reason}" for problem in plan.found.problems),
        *_left_out(plan.found.left_out, ""),
        _summary(plan, len(plan.cases), len(plan.found.problems), "to convert"),
        *(() if training else (f"no case has a label; is {plan.request.root} the right folder?",)),
        "nothing was written",
    ]
    return "\n".join(lines)


def report(plan: Plan, outcome: Outcome) -> str:
    """Summarise a conversion: warnings, what was left out, counts, and the folder."""
    training = sum(record.split == "train" for record in outcome.records)
    lines = [
        *(f"note: {warning}" for warning in outcome.warnings),
        *(f"left out: {problem.case}: {problem.reason}" for problem in outcome.problems),
        *_left_out(outcome.left_out, f", see {LEFT_OUT}"),
        _summary(plan, len(outcome.records), len(outcome.problems)),
        f"{counted(training, 'case')} for training, {len(outcome.records) - training} for testing"
        + ("; nothing has changed, nothing was done" if outcome.unchanged else ""),
        str(outcome.folder),
    ]
    return "\n".join(lines)


def class_lines(plan: Plan) -> list[str]:
    """Return a line with the number of cases of each class, and a line for each pair of classes that may be the same."""
    counts, alike = class_counts(plan.cases)
    if not counts:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return [f"classes: {listed}", *(f"note: {line}" for line in alike)]


def _summary(plan: Plan, converted: int, problems: int, what: str = "converted") -> str:
    found = converted + problems
    limited = f" (of the first {plan.options.limit})" if plan.options.limit else ""
    return (
        f"{counted(found, 'case')} found{limited}, {converted} {what}, {problems} left out; "
        f"{counted(len(plan.found.left_out), 'other image')} below {plan.request.root}"
    )


def _left_out(left_out: Sequence[LeftOut], where: str) -> list[str]:
    """Return one line per reason, the most frequent first; `where` says where those beyond the first are."""
    ordered = sorted(left_out, key=lambda item: item.reason)
    groups = {reason: [item.path for item in same] for reason, same in groupby(ordered, key=lambda item: item.reason)}
    lines = [
        f"not taken: {len(paths)} because of: {reason}, such as {paths[0]}"
        for reason, paths in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    hidden = len(lines) - _LISTED
    return lines if hidden <= 0 else [*lines[:_LISTED], f"not taken: {counted(hidden, 'more reason')}{where}"]


def _sites(cases: Iterable[Case]) -> list[str]:
    counts = Counter(case.site for case in cases if case.site)
    if not counts:
        return []
    listed = ", ".join(f"{site} {count}" for site, count in counts.most_common(_LISTED))
    return [f"sites: {listed}" + (f", and {len(counts) - _LISTED} more" if len(counts) > _LISTED else "")]


def _table(cases: Sequence[Case]) -> list[str]:
    header = ("case", "split", "subject", "session", "class", "images", "masks")
    rows = [header]
    for case in cases[:_ROWS]:
        paths = [path.name for path in case.files()]
        images = len(case.images)
        rows.append(
            (
                case.name,
                case.split,
                case.subject,
                case.session,
                case.class_name,
                ", ".join(paths[:images]),
                ", ".join(paths[images:]),
            )
        )
    used = [i for i in range(len(header)) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in used]
    lines = ["  " + "  ".join(row[i].ljust(w) for i, w in zip(used, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"  ... and {len(cases) - _ROWS} more"] if len(cases) > _ROWS else lines
