"""The report's section on cases: the table, and the pictures behind its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.case_table import PICTURED, ArmScores, CaseRow, case_rows, telling_cases
from nnunet_transfer.comparison.pages import render, style
from nnunet_transfer.comparison.pictures import Panel, case_panels
from nnunet_transfer.comparison.results import Run
from nnunet_transfer.comparison.targets import prediction_file
from nnunet_transfer.comparison.viewer import write_viewer
from nnunet_transfer.files import write_text

#: maximum size of all pictures in the report, so that it stays below 15 MB; further pictures go to separate pages
MOST_BYTES = 11_000_000
#: folder of the cases that are not in the page
BESIDE = "cases"


@dataclass(frozen=True)
class CaseSection:
    """Input of the template of the cases.

    Attributes
    ----------
    codes : code (or name) of an arm -> its title
    coded : whether figures use codes for arms
    pictures : key of a case -> its panels; empty for cases without pictures in the page
    captions : key of a case -> title of a panel -> the arm's scores in words
    pages : key of a case -> page beside the report, if it has one
    viewers : key of a case -> its interactive page, if it has one
    by_subject : whether the subject differs from the case
    """

    rows: list[CaseRow]
    codes: dict[str, str]
    coded: bool
    baseline: str
    protocols: list[str]
    pictures: dict[str, list[Panel]]
    captions: dict[str, dict[str, str]]
    pages: dict[str, str]
    viewers: dict[str, str]
    oriented: bool
    by_subject: bool
    by_site: bool

    @property
    def pictured(self) -> int:
        """Number of cases with pictures in the page."""
        return sum(map(bool, self.pictures.values()))

    @property
    def beside(self) -> bool:
        """Whether all other cases have pictures in separate pages."""
        return self.pictured + len(self.pages) == len(self.rows)

    @property
    def width(self) -> int:
        """Number of the table's columns."""
        return 3 + self.by_subject + self.by_site + (len(self.codes) > 1) + len(self.codes)


def case_section(
    result: TargetResult,
    codes: Mapping[str, str],
    coded: bool,
    folder: Path,
    *,
    all_cases: bool,
    share: float,
    viewer: bool = False,
) -> CaseSection:
    """Draw the most informative cases of a target, and list all cases.

    Parameters
    ----------
    codes : name of an arm -> code
    folder : folder of the report
    all_cases : also draw the other cases, in separate pages
    share : share of `MOST_BYTES` that the target may use
    viewer : write an interactive page for each drawn case
    """
    rows = case_rows(result, dict(codes), folder)
    runs: dict[str, Run] = {}
    for run in result.runs:
        runs.setdefault(run.arm.name, run)
    telling = telling_cases(rows, PICTURED)
    keys = {row.key for row in telling}
    section = CaseSection(
        rows=rows,
        codes={codes[arm.name]: arm.title for arm in result.arms},
        coded=coded,
        baseline=result.baseline_title,
        protocols=[p.title for p in result.protocols],
        pictures={row.key: [] for row in rows},
        captions={row.key: {a.title: _caption(a) for a in row.arms if np.isfinite(a.dice)} for row in rows},
        pages={},
        viewers={},
        oriented=False,
        by_subject=any(row.subject != row.case for row in rows),
        by_site=any(row.site for row in rows),
    )
    left, oriented = share * MOST_BYTES, False
    wanted = [*telling, *(row for row in rows if row.key not in keys)] if all_cases else telling
    for row in tqdm(wanted, desc=f"drawing cases of {result.target.title}", disable=None, leave=False):
        panels, known = _panels(result, runs, row)
        oriented |= known
        size = sum(len(panel.svg) for panel in panels)
        if viewer and (page := _write_viewer(result, runs, row, folder)):
            section.viewers[row.key] = page
        if row.key in keys and size <= left:
            section.pictures[row.key] = panels
            left -= size
        else:
            section.pages[row.key] = _write_page(section, row, panels, folder, result.target.dataset)
    return replace(section, oriented=oriented)


def _caption(arm: ArmScores) -> str:
    """Return an arm's Dice in words: with several seeds, the picture shows the first, and the score is that of all."""
    if len(arm.files) == 1:
        return f"Dice {arm.dice:.3f}"
    return f"mean Dice {arm.dice:.3f} of {len(arm.files)} trainings, drawn: {next(iter(arm.files))}"


def _panels(result: TargetResult, runs: Mapping[str, Run], row: CaseRow) -> tuple[list[Panel], bool]:
    reference, image, predictions = _files(result, runs, row)
    return case_panels(row.key, reference, image, predictions)


def _files(result: TargetResult, runs: Mapping[str, Run], row: CaseRow) -> tuple[Path, Path | None, dict[str, Path]]:
    """Return a case's reference, image, and the predictions of the first training of each arm."""
    reference = result.target.references[row.case]
    predictions = {arm.title: prediction_file(result.target, runs[arm.arm], row.case, row.fold) for arm in row.arms}
    return reference, result.target.images.get(row.case), predictions


def _write_viewer(result: TargetResult, runs: Mapping[str, Run], row: CaseRow, folder: Path) -> str:
    reference, image, predictions = _files(result, runs, row)
    name = f"{result.target.dataset}_{row.key}"
    return write_viewer(row.case, row.key, reference, image, predictions, folder, name)


def _write_page(section: CaseSection, row: CaseRow, panels: list[Panel], folder: Path, dataset: str) -> str:
    """Write a case's page; return its address relative to the report."""
    beside = {**section.pictures, row.key: panels}
    name = f"{BESIDE}/{dataset}_{row.key}.html"
    viewers = {key: f"../{page}" for key, page in section.viewers.items()}
    own = replace(section, pictures=beside, viewers=viewers)
    write_text(folder / name, render("case_page.html", row=_moved_up(row), cases=own, style=style()))
    return name


def _moved_up(row: CaseRow) -> CaseRow:
    """Return the row with links for a page one folder deeper."""
    arms = tuple(replace(a, files={name: f"../{file}" for name, file in a.files.items()}) for a in row.arms)
    return replace(row, arms=arms, reference=f"../{row.reference}", image=row.image and f"../{row.image}")
