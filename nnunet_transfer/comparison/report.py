"""The report: one HTML file that works offline. It prints numbers that were computed elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.style
import pandas as pd
from markupsafe import Markup

from nnunet_transfer.comparison import (
    alt_texts,
    figures,
    figures_lesions,
    figures_ranking,
    figures_training,
    run_card,
)
from nnunet_transfer.comparison.analysis import TargetResult, compared_metrics, metric_name
from nnunet_transfer.comparison.case_section import CaseSection, case_section
from nnunet_transfer.comparison.codes import arm_codes, needs_codes, with_codes
from nnunet_transfer.comparison.consensus import consensus
from nnunet_transfer.comparison.markup import Column, figure, html_table, latex_table
from nnunet_transfer.comparison.pages import render, script, style
from nnunet_transfer.comparison.report_tables import Table
from nnunet_transfer.comparison.report_tables import tables as result_tables
from nnunet_transfer.comparison.training_logs import training_curves
from nnunet_transfer.comparison.viewer import place_script
from nnunet_transfer.comparison.wording import caveats, methods, sentence
from nnunet_transfer.files import write_text
from nnunet_transfer.words import counted

#: maximum number of labels whose volumes are drawn; volumes.csv has all labels
DRAWN_LABELS = 4
DEFAULT_NAME = "Comparison"
#: long tables that most readers don't need: folded on screen, open in print
FOLDED = ("tests_iou", "tests_other")
ONE_RUN = (
    "The intervals of this section describe the networks at hand. With one seed and few folds, they say nothing about arms "
    "that are trained again; for that, train several seeds (_seed1, _seed2, ...)."
)


@dataclass(frozen=True)
class ReportText:
    """What the report states besides the results.

    Attributes
    ----------
    note
        A note about the data.
    left_out
        Cases that were left out of the comparison, with the reasons.
    name
        Name of the study.
    command
        The command that wrote the report.
    all_cases
        Draw all cases; those that don't fit into the report go to a folder beside it.
    viewer
        Script of NiiVue, to add interactive pages of the drawn cases (see `comparison.viewer`).
    """

    note: str = ""
    left_out: tuple[str, ...] = ()
    name: str = ""
    command: str = ""
    all_cases: bool = False
    viewer: Path | None = None


@dataclass
class Section:
    """A section of a target's chapter.

    Attributes
    ----------
    lead : tables to print above the figures
    """

    id: str
    title: str
    texts: list[str] = field(default_factory=list)
    lead: list[Markup] = field(default_factory=list)
    figures: list[Markup] = field(default_factory=list)
    tables: list[Markup] = field(default_factory=list)
    cases: CaseSection | None = None


@dataclass(frozen=True)
class Chapter:
    """Everything about one target.

    Attributes
    ----------
    result : the result, with the arms' titles
    drawn : the result for figures, with codes instead of titles that are too long
    """

    result: TargetResult
    drawn: TargetResult
    codes: Mapping[str, str]
    coded: bool
    folder: Path

    @property
    def id(self) -> str:
        """Anchor in the page."""
        return self.result.target.dataset

    def with_code(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the codes of the figures before the arms' titles."""
        if not self.coded or not {"arm", "title"} <= set(frame.columns):
            return frame
        titles = [f"{self.codes.get(arm, '')} {title}" for arm, title in zip(frame["arm"], frame["title"], strict=True)]
        return frame.assign(title=[title.strip() for title in titles])

    def figure(self, drawn: figures.Figure, file: str, caption: str, alt: str, *, wide: bool = False) -> Markup:
        """Save a figure and return its markup."""
        image = figures.save(drawn, self.folder / "figures", f"{self.id}_{file}")
        return figure(image, caption, alt, inches=drawn.get_figheight(), wide=wide, of=self.result.target.title)


# earlier drawing in this process, such as nnU-Net's training plots, changes fonts and colours in matplotlib's settings
@matplotlib.style.context("default")
def write_report(results: Sequence[TargetResult], folder: Path, text: ReportText) -> Path:
    """Write `report.html`, its figures and its LaTeX tables to `folder`; return the report's path."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    codes, coded = arm_codes(results), needs_codes(results)
    chapters = [Chapter(r, with_codes(r, codes) if coded else r, codes, coded, folder) for r in results]
    if text.viewer is not None:
        place_script(text.viewer, folder)
    targets = []
    for chapter in chapters:
        result = chapter.result
        found = {table.name: table for table in result_tables(result)}
        for table in found.values():
            path = folder / "tables" / f"{result.target.dataset}_{table.name}.tex"
            write_text(path, latex_table(table.frame, table.columns, table.caption))
        sections = list(_sections(chapter, found, text, share=1 / len(results)))
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
    counts = ", ".join(f"{r.target.title} n = {r.n_cases}" for r in results)
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


def _sections(chapter: Chapter, tables: Mapping[str, Table], text: ReportText, share: float) -> Iterator[Section]:
    """Yield the sections of a target's chapter; tables that belong to no section come before the cases."""
    result, drawn = chapter.result, chapter.drawn
    n = f"n = {counted(result.n_cases, 'case')}"
    left = dict(tables)

    def shown(*names: str) -> list[Markup]:
        found = [left.pop(name) for name in names if name in left]
        return [
            html_table(chapter.with_code(table.frame), table.columns, table.caption, folded=table.name in FOLDED)
            for table in found
        ]

    def section(key: str, title: str, *names: str) -> Section:
        return Section(f"{chapter.id}-{key}", title, tables=shown(*names))

    scores = section("scores", "Scores", "folds")
    scores.lead = shown("summary")
    scores.figures.append(
        chapter.figure(figures.dots(drawn), "dots", f"Dice of each subject in each arm, {n}.", alt_texts.dots(result))
    )
    yield scores
    if len(result.tests):
        metrics = compared_metrics(result.protocols)
        title = f"Differences from {result.baseline_title}"
        differences = section(
            "differences", title, *(f"tests_{metric}" for metric in metrics), "tests_other", "procedure"
        )
        for metric in metrics:
            if metric != "iou":
                counts = sorted(set(result.tests.loc[result.tests["metric"] == metric, "n_cases"]))
                span = " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))
                noun = "case" if counts == [1] else "cases"
                caption = f"Paired differences in {metric_name(result, metric)}, n = {span} {noun}."
                forest = figures.forest(drawn, metric)
                differences.figures.append(
                    chapter.figure(forest, f"forest_{metric}", caption, alt_texts.forest(result, metric))
                )
        if "procedure" not in tables:
            differences.texts.append(ONE_RUN)
        yield differences
    if len(result.pairs) > 1 or len(result.ranks):
        pairs = section("pairs", "Pairwise comparison of all arms", "ranks")
        wide = len(result.arms) > figures.MOST_NARROW
        if len(result.pairs) > 1:
            caption = (
                f"Significance map: mean paired Dice difference, row minus column, best arm first; asterisk and frame: "
                f"p < {figures.ALPHA} (Holm over all pairs), {n}."
            )
            alt = alt_texts.significance(result, figures.ALPHA)
            drawing = figures_ranking.significance(drawn)
            pairs.figures.append(chapter.figure(drawing, "significance", caption, alt, wide=wide))
        if len(result.ranks):
            tau, drawn_by = result.ranks[["tau", "drawn"]].iloc[0]
            caption = (
                f"Ranks in bootstrap samples of {drawn_by}, {n}; mean Kendall's tau to the observed order {tau:.2f}."
            )
            drawing = figures_ranking.ranks(drawn)
            pairs.figures.append(chapter.figure(drawing, "ranks", caption, alt_texts.ranks(result)))
        if (podium := figures_ranking.podium(drawn)) is not None:
            caption = (
                f"Podium plot, {n}. Top: Dice of each subject, sorted by the place of the arms for this subject; one line per "
                f"subject. Bottom: how often each arm takes each place; its most frequent place is marked."
            )
            pairs.figures.append(chapter.figure(podium, "podium", caption, alt_texts.podium(result), wide=wide))
        yield pairs
    if len(result.detection):
        yield _detection(chapter, section("detection", "Lesion detection", "detection", "lesion_free"))
    yield _volumes(chapter, section("volumes", "Volumes", "volumes"))
    if len(result.curves):
        curves = section("curves", "Learning curves", "curves")
        curves.figures.append(
            chapter.figure(figures.curves(drawn), "curves", f"Mean Dice, {n}.", alt_texts.curves(result))
        )
        yield curves
    epochs = training_curves(result.runs)
    if len(epochs):
        training = section("training", "Training")
        several = len(result.arms) > 1
        grey = f"; grey: mean of {result.baseline_title}" if several else ""
        caption = f"nnU-Net's pseudo Dice on validation patches, one line per seed and fold{grey}."
        drawing = figures_training.training(drawn, epochs)
        training.figures.append(
            chapter.figure(drawing, "training", caption, alt_texts.training(result, epochs), wide=several)
        )
        yield training
    if left:
        yield section("more", "More tables", *left)
    cases = section("cases", "Cases")
    cases.cases = case_section(
        result,
        chapter.codes,
        chapter.coded,
        chapter.folder,
        all_cases=text.all_cases,
        share=share,
        viewer=text.viewer is not None,
    )
    yield cases


def _detection(chapter: Chapter, section: Section) -> Section:
    result = chapter.result
    for protocol in result.protocols:
        if protocol.name in set(result.sizes["protocol"]):
            caption = (
                f"Sensitivity by size of the reference lesion, {protocol.title}; bars: 95 % intervals over subjects."
            )
            drawn = figures_lesions.size_sensitivity(chapter.drawn, protocol.name)
            alt = alt_texts.sizes(result, protocol.name)
            wide = len(result.arms) > figures.MOST_NARROW
            section.figures.append(chapter.figure(drawn, f"sizes_{protocol.name}", caption, alt, wide=wide))
    return section


def _volumes(chapter: Chapter, section: Section) -> Section:
    result = chapter.result
    for i, label in enumerate(result.target.label_set.labels[:DRAWN_LABELS]):
        caption = (
            f"Volumes of {label.name}, n = {counted(result.n_cases, 'case')}; lines: bias, and 95 % limits of agreement "
            "(dashed)."
        )
        drawn = figures_lesions.bland_altman(chapter.drawn, label.name)
        alt = alt_texts.volumes(result, label.name)
        section.figures.append(chapter.figure(drawn, f"volumes_{i + 1}", caption, alt, wide=len(result.arms) > 1))
    return section
