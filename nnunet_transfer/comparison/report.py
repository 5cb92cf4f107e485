"""The report: one HTML file that needs no network. It lays out numbers that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import matplotlib.style
import pandas as pd

from nnunet_transfer.comparison import figures, figures_lesions, gallery
from nnunet_transfer.comparison.analysis import TargetResult, compared_metrics
from nnunet_transfer.comparison.markup import Column, figure, html_table, latex_table, safe
from nnunet_transfer.comparison.report_tables import Table
from nnunet_transfer.comparison.report_tables import tables as result_tables
from nnunet_transfer.comparison.wording import methods, sentence
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_text

#: labels of a data set whose volumes are drawn; volumes.csv has all
DRAWN_LABELS = 4
ONE_RUN = (
    "With one seed and few folds nothing can be said about arms that are trained anew: the intervals above describe the "
    "networks at hand. Train several seeds (_seed1, _seed2, ...) for that."
)


@dataclass(frozen=True)
class ReportText:
    """What the report says beside the numbers: a note on the data, and what was left out of the comparison."""

    note: str = ""
    left_out: tuple[str, ...] = ()


# whatever was drawn in this process before, as by nnU-Net's training, leaves its fonts and colours in matplotlib's settings
@matplotlib.style.context("default")
def write_report(results: Sequence[TargetResult], folder: Path, text: ReportText) -> Path:
    """Write `report.html`, its figures and its tables as LaTeX into `folder`; return the report's path."""
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    style = resources.files("nnunet_transfer.comparison").joinpath("report.css").read_text(encoding="utf-8")
    body = [_head(results, text)]
    overview = figures.grid(results)
    if overview is not None:
        image = figures.save(overview, pictures, "grid")
        counts = ", ".join(f"{r.target.title} n = {r.n_cases}" for r in results)
        caption = f"Mean paired difference in Dice to the baseline, by source task and source domain ({counts})."
        body.append(figure(image, caption, wide=len(results) > 1))
    for result in results:
        tables = {table.name: table for table in result_tables(result)}
        for table in tables.values():
            path = folder / "tables" / f"{result.target.dataset}_{table.name}.tex"
            write_text(path, latex_table(table.frame, table.columns, table.caption))
        body.append(_target(result, tables, pictures))
    body.append(_methods(results))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Transfer learning compared</title><style>{style}</style></head><body><main>{''.join(body)}</main>"
        "</body></html>"
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _head(results: Sequence[TargetResult], text: ReportText) -> str:
    left_out = "".join(f"<li>{safe(line)}</li>" for line in text.left_out)
    sentences = "".join(
        f'<li><a href="#{safe(r.target.dataset)}">{safe(r.target.title)}</a>. {safe(sentence(r))}</li>' for r in results
    )
    return (
        "<h1>Transfer learning compared over cross-validation</h1>"
        + (f'<p class="warning">Left out of the comparison:</p><ul class="warning">{left_out}</ul>' if left_out else "")
        + (f'<p class="warning">{safe(text.note)}</p>' if text.note else "")
        + f"<ul>{sentences}</ul>"
    )


def _target(result: TargetResult, tables: dict[str, Table], pictures: Path) -> str:
    name, n = result.target.dataset, f"n = {result.n_cases} cases"

    def picture(drawn: figures.Figure, file: str, caption: str, *, wide: bool = False) -> str:
        return figure(figures.save(drawn, pictures, f"{name}_{file}"), caption, wide=wide)

    def table(key: str) -> str:
        if key not in tables:
            return ""
        found = tables[key]
        return f'<p class="caption">{safe(found.caption)}</p>{html_table(found.frame, found.columns)}'

    parts = [f'<h2 id="{safe(name)}">{safe(result.target.title)}</h2>']
    parts += [f'<p class="notice">{safe(notice)}</p>' for notice in result.notices]
    parts.append(table("summary"))
    parts.append(picture(figures.dots(result), "dots", f"Every case of every arm, {n}."))
    if len(result.tests):
        parts.append(f"<h3>Differences to {safe(result.title_of(result.baseline))}</h3>")
        forests = [
            picture(
                figures.forest(result, metric), f"forest_{metric}", f"Paired differences, {_counts(result, metric)}."
            )
            for metric in compared_metrics(result.protocols)
            if metric != "iou"
        ]
        parts.append(f'<div class="figures">{"".join(forests)}</div>')
        parts += [table(f"tests_{metric}") for metric in compared_metrics(result.protocols)]
        parts.append(table("procedure"))
        if "procedure" not in tables:
            parts.append(f'<p class="notice">{ONE_RUN}</p>')
    if len(result.pairs) > 1:
        parts.append("<h3>All arms against each other</h3>")
        caption = f"Mean paired Dice difference, row minus column; * p < {figures.ALPHA} (Holm over all pairs), {n}."
        parts.append(picture(figures.significance(result), "significance", caption, wide=True))
    if len(result.ranks):
        tau = result.ranks["tau"].iloc[0]
        caption = f"Ranks in bootstrap samples of subjects, {n}; mean Kendall's tau to the observed order {tau:.2f}."
        parts += [picture(figures.ranks(result), "ranks", caption), table("ranks")]
    if len(result.detection):
        parts += ["<h3>Lesion detection</h3>", table("detection")]
        for protocol in result.protocols:
            if protocol.name in set(result.sizes["protocol"]):
                caption = f"Sensitivity by size of the reference lesion, {protocol.title}; bars: 95 % intervals over subjects."
                drawn = figures_lesions.size_sensitivity(result, protocol.name)
                parts.append(picture(drawn, f"sizes_{protocol.name}", caption))
    parts.append("<h3>Volumes</h3>")
    for i, label in enumerate(result.target.label_set.labels[:DRAWN_LABELS]):
        caption = f"Volumes of {label.name}, {n}; lines: bias, and 95 % limits of agreement (dashed)."
        drawn = figures_lesions.bland_altman(result, label.name)
        parts.append(picture(drawn, f"volumes_{i + 1}", caption, wide=True))
    parts.append(table("volumes"))
    if len(result.curves):
        parts += [
            "<h3>Learning curves</h3>",
            picture(figures.curves(result), "curves", f"Mean Dice, {n}."),
            table("curves"),
        ]
    parts.append("<h3>Cases</h3>")
    for role, case in gallery.gallery_cases(result).items():
        caption = f"{role.capitalize()} case by mean Dice: {case}. Green: reference; orange: prediction."
        parts.append(picture(gallery.slices(result, case), role, caption, wide=True))
    parts.append(_coverage(result))
    return "".join(parts)


def _counts(result: TargetResult, metric: str) -> str:
    counts = sorted(set(result.tests.loc[result.tests["metric"] == metric, "n_cases"]))
    return f"n = {' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))} cases"


def _coverage(result: TargetResult) -> str:
    """List how much of each part of the network every arm took from its source."""
    rows = []
    for run in result.runs:
        fold = next(iter(run.folds.values())).parent
        try:
            coverage = read_json(fold / "transfer_report.json")["coverage"]
        except (DataError, KeyError, TypeError):
            continue
        rows.append({"title": run.arm.title, **{part: f"{value:.1%}" for part, value in coverage.items()}})
    if not rows:
        return ""
    frame = pd.DataFrame(rows).drop_duplicates().fillna("")
    columns = {name: Column("Arm" if name == "title" else f"{name} loaded") for name in frame.columns}
    return f"<h3>Weights taken from the source</h3>{html_table(frame, columns)}"


def _methods(results: Sequence[TargetResult]) -> str:
    text, references = methods(results)
    protocols = {p.name: p.describe() for result in results for p in result.protocols}
    rules = "".join(f"<li>{safe(rule)}</li>" for rule in protocols.values())
    listed = "".join(f"<li>{safe(reference)}</li>" for reference in references)
    return (
        f"<h2>Methods</h2><p>{safe(text)}</p>"
        + (f"<p>Lesion protocols:</p><ul>{rules}</ul>" if rules else "")
        + f'<ol class="references">{listed}</ol>'
    )
