"""The report: one HTML file that needs no network. It lays out numbers that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import matplotlib.style
import pandas as pd

from nnunet_transfer.comparison import figures, figures_lesions, gallery
from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, compared_metrics
from nnunet_transfer.comparison.markup import Column, figure, html_table, latex_table, safe
from nnunet_transfer.comparison.wording import methods, sentence
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_text

#: labels of a data set whose volumes are drawn; volumes.csv has all
DRAWN_LABELS = 4
ONE_RUN = (
    "With one seed and few folds nothing can be said about arms that are trained anew: the intervals above describe the "
    "networks at hand. Train several seeds (_seed1, _seed2, ...) for that."
)

SUMMARY = {
    "title": Column("Arm"),
    "n_cases": Column("n"),
    "dice": Column("Dice", 3, count="n_with_dice"),
    "dice_median": Column("median", 3),
    "dice_sd": Column("SD over cases", 3),
    "miou_over_cases": Column("mIoU (cases)", 3),
    "miou_over_classes": Column("mIoU (classes)", 3),
    "miou_pooled": Column("mIoU (pooled)", 3),
    "hd95_mm": Column("HD95 mm", 1, count="n_with_hd95_mm"),
    "nsd": Column("NSD", 3, count="n_with_nsd"),
}
TESTS = {
    "title": Column("Arm"),
    "difference": Column("Difference (95 % interval)", 3, low="low", high="high", sign=True),
    "n_cases": Column("cases"),
    "n_subjects": Column("subjects"),
    "p": Column("p", 3, p_value=True),
    "p_holm": Column("p (Holm)", 3, p_value=True),
    "rank_biserial": Column("rank-biserial", 2, sign=True),
    "p_better": Column("P(better)", 2),
    "p_equivalent": Column("P(equal)", 2),
    "p_worse": Column("P(worse)", 2),
}
PROCEDURE = {
    "title": Column("Arm"),
    "n_cases": Column("cases"),
    "difference": Column("Difference (95 % interval)", 3, low="procedure_low", high="procedure_high", sign=True),
    "procedure_p": Column("p", 3, p_value=True),
    "procedure": Column("Method"),
}
RANKS = {
    "title": Column("Arm"),
    "n_cases": Column("n"),
    "rank": Column("Rank (95 % interval)", 1, low="rank_low", high="rank_high"),
    "share_1": Column("comes first", 2),
}
DETECTION = {
    "title": Column("Arm"),
    "protocol": Column("Protocol"),
    "n_cases": Column("cases"),
    "n_ref": Column("lesions"),
    "n_pred": Column("predicted", 0),
    "sensitivity": Column("Sensitivity (95 % interval)", 3, low="sensitivity_low", high="sensitivity_high"),
    "precision": Column("Precision (95 % interval)", 3, low="precision_low", high="precision_high"),
    "fp_per_case": Column("false positives per case", 1),
}
VOLUMES = {
    "title": Column("Arm"),
    "label": Column("Label"),
    "n_cases": Column("n"),
    "volume_ref_ml": Column("reference ml", 2),
    "bias_ml": Column("bias ml (95 % interval)", 2, low="bias_low_ml", high="bias_high_ml", sign=True),
    "limit_low_ml": Column("limits of agreement from", 2, sign=True),
    "limit_high_ml": Column("to", 2, sign=True),
    "absolute_ml": Column("mean absolute ml", 2),
}
CURVES = {
    "title": Column("Arm"),
    "training_cases": Column("training cases"),
    "n_cases": Column("n"),
    PRIMARY: Column("Dice (95 % interval)", 3, low="low", high="high"),
    "difference": Column(
        "Difference to the baseline of that size", 3, low="difference_low", high="difference_high", sign=True
    ),
}


@dataclass(frozen=True)
class ReportText:
    """What the report says beside the numbers: a note on the data, and what was left out of the comparison."""

    note: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    """A table of one target, for HTML and LaTeX."""

    name: str
    frame: pd.DataFrame
    columns: dict[str, Column]
    caption: str


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
        tables = {table.name: table for table in _tables(result)}
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


def text_table(results: Sequence[TargetResult]) -> str:
    """Return the summary for a terminal: mean Dice and its difference to the baseline, per target and arm."""
    lines = []
    for result in results:
        tests = result.tests[result.tests["metric"] == PRIMARY].set_index("arm") if len(result.tests) else result.tests
        lines.append(f"{result.target.title}: {result.n_cases} cases of {result.n_subjects} subjects")
        width = max(len(arm.title) for arm in result.arms)
        for _, row in result.summary.iterrows():
            line = f"  {row['title']:<{width}}  Dice {row['dice']:.3f}  mIoU {row['miou_over_cases']:.3f}"
            for protocol in result.protocols:
                line += f"  lesion F1 {row[f'{protocol.name}_f1']:.3f}"
            if row["arm"] in tests.index:
                t = tests.loc[row["arm"]]
                line += f"  difference {t['difference']:+.3f} ({t['low']:+.3f} to {t['high']:+.3f})"
            lines.append(line)
        lines.append("")
    return "\n".join(lines)


def _tables(result: TargetResult) -> Iterator[_Table]:
    """Yield the tables that have rows."""
    where = f"{result.target.title}, {result.n_cases} cases of {result.n_subjects} subjects"
    summary = dict(SUMMARY)
    for protocol in result.protocols:
        for field, word in (("sensitivity", "sensitivity"), ("precision", "precision"), ("f1", "F1")):
            key = f"{protocol.name}_{field}"
            summary[key] = Column(f"{protocol.title} {word}", 3, count=f"n_with_{key}")
    summary = {key: column for key, column in summary.items() if key in result.summary.columns}
    yield _Table("summary", result.summary, summary, f"Mean over cases: {where}.")
    reference = result.title_of(result.baseline)
    if len(result.tests):
        for metric in compared_metrics(result.protocols):
            rows = result.tests[result.tests["metric"] == metric]
            # only the declared family has adjusted p-values
            columns = {key: column for key, column in TESTS.items() if rows[key].notna().any()}
            caption = f"{figures.metric_name(result, metric)}, paired difference to {reference}: {where}."
            yield _Table(f"tests_{metric}", rows, columns, caption)
        primary = result.tests[result.tests["metric"] == PRIMARY]
        caption = f"Dice difference to {reference} if both arms were trained anew: {where}."
        if primary["procedure_low"].notna().any():
            yield _Table("procedure", primary, PROCEDURE, caption)
    if len(result.ranks):
        yield _Table("ranks", result.ranks.sort_values("rank", kind="stable"), RANKS, f"Ranks by mean Dice: {where}.")
    if len(result.detection):
        titles = {p.name: p.title for p in result.protocols}
        detection = result.detection.assign(protocol=result.detection["protocol"].map(titles))
        yield _Table("detection", detection, DETECTION, f"Lesion detection pooled over cases: {where}.")
    yield _Table("volumes", result.volumes, VOLUMES, f"Predicted minus reference volume: {where}.")
    if len(result.curves):
        yield _Table("curves", result.curves, CURVES, f"Dice by number of training cases: {where}.")


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


def _target(result: TargetResult, tables: dict[str, _Table], pictures: Path) -> str:
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
