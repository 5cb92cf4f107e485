"""The report: one HTML file that works offline. It prints numbers that were computed elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.style
from markupsafe import Markup

from nnunet_transfer.comparison import (
    alt_texts,
    figures,
    run_card,
)
from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.case_section import BESIDE
from nnunet_transfer.comparison.codes import arm_codes, needs_codes, with_codes
from nnunet_transfer.comparison.consensus import consensus
from nnunet_transfer.comparison.markup import Column, figure, html_table, latex_table
from nnunet_transfer.comparison.pages import render, script, style
from nnunet_transfer.comparison.report_sections import Chapter, ReportText, sections_of
from nnunet_transfer.comparison.report_tables import tables as result_tables
from nnunet_transfer.comparison.source_rankings import read_rankings
from nnunet_transfer.comparison.viewer import FOLDER as VIEWER
from nnunet_transfer.comparison.viewer import SCRIPT, place_script
from nnunet_transfer.comparison.wording import caveats, methods, sentence
from nnunet_transfer.files import write_text

DEFAULT_NAME = "Comparison"
#: what reports write beside the page: files of an earlier one, of other targets, arms or options, are removed
_WRITTEN = (
    *("tables/Dataset[0-9]*.tex", "figures/Dataset[0-9]*.png", "figures/Dataset[0-9]*.svg", "figures/grid.*"),
    *(f"{BESIDE}/Dataset[0-9]*.html", f"{VIEWER}/Dataset[0-9]*.html", f"{VIEWER}/{SCRIPT}"),
)


# earlier drawing in this process, such as nnU-Net's training plots, changes fonts and colours in matplotlib's settings;
# dollar signs in names of arms, labels and targets are no formulas
@matplotlib.style.context(["default", {"text.parse_math": False}])
def write_report(results: Sequence[TargetResult], folder: Path, text: ReportText) -> Path:
    """Write `report.html`, its figures and its LaTeX tables to `folder`; return the report's path.

    Those of an earlier report are removed, so that none is taken for a part of this one.
    """
    for earlier in [path for pattern in _WRITTEN for path in folder.glob(pattern)]:
        earlier.unlink(missing_ok=True)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    codes, coded = arm_codes(results), needs_codes(results)
    chapters = [Chapter(r, with_codes(r, codes) if coded else r, codes, coded, folder) for r in results]
    if text.viewer is not None:
        place_script(text.viewer, folder)
    targets, rankings = [], read_rankings(text.rankings)
    for chapter in chapters:
        result = chapter.result
        found = {table.name: table for table in result_tables(result)}
        for table in found.values():
            path = folder / "tables" / f"{result.target.dataset}_{table.name}.tex"
            write_text(path, latex_table(table.frame, table.columns, table.caption))
        sections = list(sections_of(chapter, found, text, rankings, share=1 / len(results)))
        targets.append(
            {
                "id": chapter.id,
                "title": result.target.title,
                "caveats": caveats(result),
                "sentence": sentence(result),
                "notices": [n for n in result.notices if n not in caveats(result)],
                "sections": sections,
            }
        )
    prose, references = methods(results)
    page = render(
        "report.html",
        card=_card(results, codes, coded, folder, text),
        targets=targets,
        overview=_overview(results, folder) + _consensus(results),
        note=text.note,
        left_out=text.left_out,
        methods=prose,
        references=references,
        protocols=list({p.name: p.describe() for result in results for p in result.protocols}.values()),
        style=style(),
        script=script(),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _card(
    results: Sequence[TargetResult], codes: Mapping[str, str], coded: bool, folder: Path, text: ReportText
) -> dict[str, object]:
    arms = run_card.arm_cards(results, codes)
    return {
        "name": text.name or DEFAULT_NAME,
        "written": datetime.date.today().isoformat(),
        "trained": run_card.started(results),
        "command": text.command,
        "software": run_card.software(results),
        "devices": list(dict.fromkeys(device for arm in arms for device in arm.devices)),
        "files": sorted(path.name for path in folder.glob("*.csv")),
        "data": [run_card.data_card(result) for result in results],
        "arms": arms,
        "coded": coded,
    }


def _overview(results: Sequence[TargetResult], folder: Path) -> Markup:
    drawn = figures.grid(results)
    if drawn is None:
        return Markup("")
    counts = ", ".join(f"{r.target.title} n = {r.n_scored}" for r in results)
    panels = sum(result.grid["panel"].nunique() for result in results if len(result.grid))
    caption = f"Mean paired difference in Dice from the baseline, by source task and source domain ({counts})."
    image = figures.save(drawn, folder / "figures", "grid")
    return figure(image, caption, alt_texts.grid(results), inches=drawn.get_figheight(), wide=panels > 1)


def _consensus(results: Sequence[TargetResult]) -> Markup:
    table = consensus(results)
    if not len(table):
        return Markup("")
    titles = [result.target.title for result in results]
    columns = {"title": Column("Arm"), "place": Column("Place", 1), "mean_rank": Column("mean rank", 2)}
    columns |= {title: Column(f"rank: {title}", 1) for title in titles}
    caption = (
        "Consensus over targets: arms trained on all targets, sorted by mean rank; every target has the same weight."
    )
    return html_table(table, columns, caption)
