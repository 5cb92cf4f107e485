"""Tables as HTML and LaTeX, and other pieces of the report's page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup, escape

#: characters that mean something to LaTeX -> how they are printed
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "<": r"$<$",
    ">": r"$>$",
    "²": r"$^2$",
    "×": r"$\times$",
}
MISSING = "–"
#: smaller p-values are printed as "< 0.001"
SMALLEST_P = 0.001


@dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Attributes
    ----------
    heading : above the column
    decimals : of numbers
    low, high : columns with the ends of its interval, printed in the same cell
    count : column with the number of cases that the value is made of; printed where it differs from `n_cases`
    p_value : whether it is a p-value
    sign : whether positive numbers get a plus
    """

    heading: str
    decimals: int = 0
    low: str = ""
    high: str = ""
    count: str = ""
    p_value: bool = False
    sign: bool = False


def cell(row: pd.Series, key: str, column: Column) -> str:
    """Return the text of one cell."""
    value = row[key]
    text = number(value, column) if isinstance(value, float) else str(value)
    if column.low and not math.isnan(row[column.low]):
        text += f" ({number(row[column.low], column)} to {number(row[column.high], column)})"
    if column.count and row[column.count] != row["n_cases"]:
        text += f" (n = {row[column.count]})"
    return text


def number(value: float, column: Column) -> str:
    """Return a number as the column prints it."""
    if math.isnan(value):
        return MISSING
    if column.p_value and value < SMALLEST_P:
        return f"< {SMALLEST_P}"
    # adding 0.0 turns the -0.0 that rounding may leave into 0.0
    rounded = round(value, column.decimals) + 0.0
    return f"{rounded:+.{column.decimals}f}" if column.sign else f"{rounded:.{column.decimals}f}"


def html_table(frame: pd.DataFrame, columns: Mapping[str, Column], caption: str = "") -> Markup:
    """Return a table; it scrolls sideways where the page is too narrow. The first column names the rows."""
    heads = "".join(f'<th scope="col">{escape(column.heading)}</th>' for column in columns.values())
    rows = []
    for _, row in frame.iterrows():
        first, *others = [escape(cell(row, key, column)) for key, column in columns.items()]
        rows.append(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in others)}</tr>')
    name = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    label = f' role="region" aria-label="{escape(caption)}"' if caption else ""
    return Markup(
        f'<div class="scroll" tabindex="0"{label}><table>{name}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def latex_table(frame: pd.DataFrame, columns: Mapping[str, Column], caption: str) -> str:
    """Return a table environment; it needs the package booktabs."""
    lines = [
        " & ".join(latex(cell(row, key, column)) for key, column in columns.items()) for _, row in frame.iterrows()
    ]
    heads = " & ".join(latex(column.heading) for column in columns.values())
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *(rf"{line} \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    return "".join(LATEX.get(character, character) for character in text)


def figure(image: str, caption: str, alt: str, *, wide: bool = False) -> Markup:
    """Return an image with its caption; a wide one scrolls sideways on a narrow screen.

    Parameters
    ----------
    image : data URI
    alt : what the figure shows, for readers who don't see it
    """
    kind = ' class="wide"' if wide else ""
    # what scrolls must be reachable by keyboard
    focus = f' tabindex="0" role="region" aria-label="{escape(caption)}"' if wide else ""
    return Markup(
        f'<figure{kind}><div class="scroll"{focus}><img src="{image}" alt="{escape(alt)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
