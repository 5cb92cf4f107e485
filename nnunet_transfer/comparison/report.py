"""The report: one HTML file that needs no network. It words and lays out numbers that were computed elsewhere."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from nnunet_transfer import __version__
from nnunet_transfer.comparison import figures
from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, compared_metrics, sentence
from nnunet_transfer.comparison.statistics import DEFAULT_ROPE
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_text

#: columns of the summary table: column -> (heading, decimals)
SUMMARY = {
    "title": ("Arm", 0),
    "n_cases": ("n", 0),
    "dice": ("Dice", 3),
    "dice_median": ("median", 3),
    "dice_sd": ("SD", 3),
    "miou_over_cases": ("mIoU (cases)", 3),
    "miou_over_classes": ("mIoU (classes)", 3),
    "hd95_mm": ("HD95 mm", 1),
    "nsd": ("NSD", 3),
}
DETECTION = {"sensitivity": "sensitivity", "precision": "precision", "f1": "F1"}
TESTS = {
    "title": ("Arm", 0),
    "metric": ("Metric", 0),
    "n_cases": ("cases", 0),
    "n_subjects": ("subjects", 0),
    "difference": ("Difference", 3),
    "low": ("95 % from", 3),
    "high": ("to", 3),
    "rank_biserial": ("rank-biserial", 2),
    "p": ("p", 3),
    "p_holm": ("p (Holm)", 3),
    "p_better": ("P(better)", 2),
    "p_equivalent": ("P(equal)", 2),
    "p_worse": ("P(worse)", 2),
}


@dataclass(frozen=True)
class ReportText:
    """What the report says beside the numbers: a note on the data, and what was left out of the comparison."""

    note: str = ""
    left_out: tuple[str, ...] = ()


def write_report(results: Sequence[TargetResult], folder: Path, text: ReportText) -> Path:
    """Write `report.html` and its figures into `folder`; return the report's path."""
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    style = resources.files("nnunet_transfer.comparison").joinpath("report.css").read_text(encoding="utf-8")
    body = [_head(results, text)]
    overview = figures.grid(results)
    if overview is not None:
        image = figures.save(overview, pictures, "grid")
        body.append(_figure(image, "Mean paired difference in Dice to the baseline, by source task and source domain."))
    body += [_target(result, pictures) for result in results]
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


def _head(results: Sequence[TargetResult], text: ReportText) -> str:
    left_out = "".join(f"<li>{_safe(line)}</li>" for line in text.left_out)
    sentences = "".join(
        f"<li><b>{_safe(result.target.title)}.</b> {_safe(sentence(result))}</li>" for result in results
    )
    return (
        "<h1>Transfer learning compared over cross-validation</h1>"
        + (f'<p class="warning">Left out of the comparison:</p><ul class="warning">{left_out}</ul>' if left_out else "")
        + (f'<p class="warning">{_safe(text.note)}</p>' if text.note else "")
        + f"<ul>{sentences}</ul>"
    )


def _target(result: TargetResult, pictures: Path) -> str:
    name = result.target.dataset
    parts = [f"<h2>{_safe(result.target.title)}</h2>"]
    parts += [f'<p class="notice">{_safe(notice)}</p>' for notice in result.notices]
    parts.append(_table(result.summary, _summary_columns(result)))
    if len(result.tests):
        for metric in compared_metrics(result.protocols):
            if metric != "iou":
                image = figures.save(figures.forest(result, metric), pictures, f"{name}_forest_{metric}")
                parts.append(_figure(image, f"Paired differences, n = {result.n_cases} cases."))
    image = figures.save(figures.dots(result), pictures, f"{name}_dots")
    parts.append(_figure(image, f"Every case of every arm, n = {result.n_cases}."))
    if len(result.tests):
        names = result.tests["metric"].map(lambda metric: figures.metric_name(result, metric))
        parts.append(_table(result.tests.assign(metric=names), TESTS))
    for role, case in figures.gallery_cases(result).items():
        image = figures.save(figures.slices(result, case), pictures, f"{name}_{role}")
        caption = f"{role.capitalize()} case by mean Dice: {case}. Green: reference; orange: prediction."
        parts.append(_figure(image, caption))
    parts.append(_coverage(result))
    return "".join(parts)


def _summary_columns(result: TargetResult) -> dict[str, tuple[str, int]]:
    columns = dict(SUMMARY)
    for protocol in result.protocols:
        columns |= {f"{protocol.name}_{key}": (f"{protocol.title} {word}", 3) for key, word in DETECTION.items()}
    return {key: value for key, value in columns.items() if key in result.summary.columns}


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
    table = pd.DataFrame(rows).drop_duplicates()
    columns = {name: ("Arm" if name == "title" else f"{name} loaded", 0) for name in table.columns}
    return f"<h3>Weights taken from the source</h3>{_table(table, columns)}"


def _methods(results: Sequence[TargetResult]) -> str:
    protocols = {p.name: p.describe() for result in results for p in result.protocols}
    subjects = " ".join(dict.fromkeys(n for result in results for n in result.notices if n.startswith("Subjects")))
    listed = "".join(f"<li>{_safe(text)}</li>" for text in protocols.values())
    return (
        "<h2>Methods</h2><p>Scores were recomputed from the masks. A case's Dice and IoU are means over the labels "
        "present in reference or prediction, then over seeds; a label absent from both is left out. Differences are "
        "paired by case; 95 % intervals are bias-corrected and accelerated bootstrap intervals over subjects within "
        "folds (Efron 1987); p-values are from Wilcoxon's signed-rank test on subjects' mean differences with Pratt's "
        "zeros, adjusted by Holm over the declared family: every arm against the baseline on Dice, all targets. "
        f"P(better), P(equal) and P(worse) are from the Bayesian signed-rank test with a region of practical equivalence "
        f"of ±{DEFAULT_ROPE} (Benavoli et al. 2017). The intervals describe these trained networks on these cases; "
        f"another training run would differ. {_safe(subjects)}</p>"
        + (f"<p>Lesion protocols:</p><ul>{listed}</ul>" if listed else "")
        + f"<p>nnunet_transfer {__version__}; nnU-Net: Isensee et al., Nat Methods 2021;18:203-211; study design after "
        "Zoetmulder et al., Comput Methods Programs Biomed 2022;214:106539.</p>"
    )


def _table(frame: pd.DataFrame, columns: dict[str, tuple[str, int]]) -> str:
    heads = "".join(f"<th>{_safe(heading)}</th>" for heading, _ in columns.values())
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(row[key], decimals)}</td>" for key, (_, decimals) in columns.items()) + "</tr>"
        for _, row in frame.iterrows()
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(value: object, decimals: int) -> str:
    if isinstance(value, float):
        # adding 0.0 turns the -0.0 that rounding may leave into 0.0
        return "–" if math.isnan(value) else f"{round(value, decimals) + 0.0:.{decimals}f}"
    return _safe(str(value))


def _figure(image: str, caption: str) -> str:
    return f'<figure><img src="{image}" alt="{_safe(caption)}"><figcaption>{_safe(caption)}</figcaption></figure>'


def _safe(text: str) -> str:
    return html.escape(text)
