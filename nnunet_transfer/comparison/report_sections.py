"""The sections of a target's chapter in the report: their figures and tables, with captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from nnunet_transfer.comparison import alt_texts, figures, figures_lesions, figures_ranking, figures_training
from nnunet_transfer.comparison.analysis import TargetResult, compared_metrics, metric_name
from nnunet_transfer.comparison.case_section import CaseSection, case_section
from nnunet_transfer.comparison.markup import figure, html_table
from nnunet_transfer.comparison.report_tables import Table
from nnunet_transfer.comparison.source_rankings import RANKING
from nnunet_transfer.comparison.training_logs import training_curves
from nnunet_transfer.comparison.wording import length_sentences
from nnunet_transfer.words import counted, rounded

#: maximum number of labels whose volumes are drawn; volumes.csv has all labels
DRAWN_LABELS = 4
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
    rankings
        Tables of `sources rank`, to show what was known of the sources before training.
    """

    note: str = ""
    left_out: tuple[str, ...] = ()
    name: str = ""
    command: str = ""
    all_cases: bool = False
    viewer: Path | None = None
    rankings: tuple[Path, ...] = ()


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

    @property
    def n(self) -> str:
        """The number of cases with a score, as captions state it."""
        return f"n = {counted(self.result.n_scored, 'case')}"

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


def sections_of(
    chapter: Chapter, tables: Mapping[str, Table], text: ReportText, rankings: pd.DataFrame, share: float
) -> Iterator[Section]:
    """Yield the sections of a target's chapter; tables that belong to no section come before the cases.

    Parameters
    ----------
    tables : by name
    rankings : of the sources, for all targets, see `read_rankings`
    share : of the room for pictures of cases that this chapter has
    """
    result = chapter.result
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
    yield _scores(chapter, scores)
    if len(result.tests):
        title = f"Differences from {result.baseline_title}"
        names = (*(f"tests_{metric}" for metric in compared_metrics(result.protocols)), "tests_other", "procedure")
        differences = _differences(chapter, section("differences", title, *names))
        if "procedure" not in tables:
            differences.texts.append(ONE_RUN)
        yield differences
    if len(result.pairs) > 1 or len(result.ranks):
        yield _pairs(chapter, section("pairs", "Pairwise comparison of all arms", "ranks"))
    if len(result.detection):
        yield _detection(chapter, section("detection", "Lesion detection", "detection", "lesion_free"))
    yield _volumes(chapter, section("volumes", "Volumes", "volumes"))
    if len(result.curves):
        yield _curves(chapter, section("curves", "Learning curves", "curves"))
    if len(result.lengths):
        yield _lengths(chapter, section("lengths", "Length of training", "lengths"))
    if len(epochs := training_curves(result.runs)):
        yield _training(chapter, section("training", "Training"), epochs)
    ranking = rankings[rankings["target"] == result.target.dataset]
    if len(ranking):
        yield _ranking(section("ranking", "Sources before training"), ranking)
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


def _ranking(section: Section, ranking: pd.DataFrame) -> Section:
    by_fold = ranking["fold"] != ""
    cases = "the training cases of a fold"
    if not by_fold.all():
        everything = "all cases, including those that validate the arms"
        cases = f"{cases} or, without a fold, on {everything}" if by_fold.any() else everything
    caption = (
        f"Scores of the sources on {cases}, before any fine-tuning (sources rank). Dice and lesion F1 of output layers that "
        "were fitted on some subjects and predict others; higher is better in all columns."
    )
    columns = {key: column for key, column in RANKING.items() if ranking[key].notna().any()}
    section.tables.append(html_table(ranking, columns, caption))
    return section


def _scores(chapter: Chapter, section: Section) -> Section:
    caption = f"Dice of each subject in each arm, {chapter.n}."
    section.figures.append(chapter.figure(figures.dots(chapter.drawn), "dots", caption, alt_texts.dots(chapter.result)))
    return section


def _differences(chapter: Chapter, section: Section) -> Section:
    result = chapter.result
    for metric in compared_metrics(result.protocols):
        if metric == "iou":
            continue
        counts = sorted(set(result.tests.loc[result.tests["metric"] == metric, "n_cases"]))
        span = " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))
        noun = "case" if counts == [1] else "cases"
        caption = f"Paired differences in {metric_name(result, metric)}, n = {span} {noun}."
        drawn = figures.forest(chapter.drawn, metric)
        section.figures.append(chapter.figure(drawn, f"forest_{metric}", caption, alt_texts.forest(result, metric)))
    return section


def _pairs(chapter: Chapter, section: Section) -> Section:
    result = chapter.result
    wide = len(result.arms) > figures.MOST_NARROW
    if len(result.pairs) > 1:
        caption = (
            f"Significance map: mean paired Dice difference, row minus column, best arm first; asterisk and frame: "
            f"p < {figures.ALPHA} (Holm over all pairs), {chapter.n}."
        )
        alt = alt_texts.significance(result, figures.ALPHA)
        drawn = figures_ranking.significance(chapter.drawn)
        section.figures.append(chapter.figure(drawn, "significance", caption, alt, wide=wide))
    # of one subject there are no samples
    if len(result.ranks) and result.ranks["tau"].notna().all():
        tau, drawn_by = result.ranks[["tau", "drawn"]].iloc[0]
        agreement = f"mean Kendall's tau to the observed order {rounded(tau, 2):.2f}"
        caption = f"Ranks in bootstrap samples of {drawn_by}, {chapter.n}; {agreement}."
        drawn = figures_ranking.ranks(chapter.drawn)
        section.figures.append(chapter.figure(drawn, "ranks", caption, alt_texts.ranks(result)))
    if (podium := figures_ranking.podium(chapter.drawn)) is not None:
        caption = (
            f"Podium plot, {chapter.n}. Top: Dice of each subject, sorted by the place of the arms for this subject; one "
            f"line per subject. Bottom: how often each arm takes each place; its most frequent place is marked."
        )
        section.figures.append(chapter.figure(podium, "podium", caption, alt_texts.podium(result), wide=wide))
    return section


def _curves(chapter: Chapter, section: Section) -> Section:
    # its lines have no codes: each is several arms
    drawn, alt = figures.curves(chapter.result), alt_texts.curves(chapter.result)
    section.figures.append(chapter.figure(drawn, "curves", f"Mean Dice, {chapter.n}.", alt))
    return section


def _lengths(chapter: Chapter, section: Section) -> Section:
    result = chapter.result
    section.texts += length_sentences(result)
    # likewise
    drawn, alt = figures.lengths(result), alt_texts.lengths(result)
    wide = result.lengths["training_cases"].nunique() > 1
    caption = f"Mean Dice by length of training, each a training of its own, {chapter.n}; dotted: arms with one length."
    section.figures.append(chapter.figure(drawn, "lengths", caption, alt, wide=wide))
    return section


def _training(chapter: Chapter, section: Section, epochs: pd.DataFrame) -> Section:
    result = chapter.result
    several = len(result.arms) > 1
    grey = f"; grey: mean of {result.baseline_title}" if several else ""
    caption = f"nnU-Net's pseudo Dice on validation patches, one line per seed and fold{grey}."
    drawn = figures_training.training(chapter.drawn, epochs)
    alt = alt_texts.training(result, epochs)
    section.figures.append(chapter.figure(drawn, "training", caption, alt, wide=several))
    return section


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
