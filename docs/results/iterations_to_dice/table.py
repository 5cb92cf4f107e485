"""Read the curves of `run.py`: print the tables of the write-up, check the goals, draw the figure.

    python table.py [OUT] [--keep FILE] [--figure FILE] [--cases N]

Without OUT it reads `curves.json`, the curves that the write-up shows, as `--keep` writes them. A setting counts once it has
all folds of an arm. The control of a fold is the best final Dice of all scratch recipes that were run in this setting:
chosen on the validation cases themselves, so in favour of scratch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from run import ANATOMY, ARMS, CASES, FOLDS, REAL_MS, SCRATCH_LENGTH, TARGETS, Arm, curve_name

from nnunet_transfer.files import read_json, write_json

Curve = dict[int, float]
NEVER = float("inf")
SCRATCH = "scratch"
COLUMNS = (
    "target",
    "cases",
    "arm",
    "iterations",
    "Dice before the first step",
    "final Dice, folds 0 to 3",
    "median",
    "ratio, folds 0 to 3",
    "median",
)
COLUMNS_OF_PANELS = 3
#: final Dice may be so much below the best scratch
TOLERANCE = 0.01
COLOURS = {
    "scratch-sgd": "#BBBBBB",
    "scratch-adamw": "#888888",
    "scratch-fitted": "#333333",
    "natural-fitted": "#2A9D4E",
    "t1seg-fitted": "#0072B2",
    "t1seg-byname": "#56B4E9",
    "lesion-fitted": "#E08E79",
    "lesion-long-fitted": "#C0392B",
    "synthetic-fitted": "#CC79A7",
    "synthetic-lesion-fitted": "#E69F00",
}
KEPT = Path(__file__).parent / "curves.json"
#: decimals of the Dice in `curves.json`
DECIMALS = 4


@dataclass(frozen=True)
class Setting:
    """All finished arms of a target and number of cases: arm -> one curve per fold."""

    target: int
    cases: int
    curves: dict[str, list[Curve]]

    @property
    def control(self) -> list[float]:
        """Each fold's best final Dice from scratch."""
        scratches = [curves for arm, curves in self.curves.items() if arm.startswith(SCRATCH)]
        return [max(final(curves[fold]) for curves in scratches) for fold in FOLDS]

    def ratios(self, arm: str) -> list[float]:
        """Each fold's iterations to the control's Dice, relative to the length of a training from scratch."""
        return [
            first_reaching(curve, dice) / SCRATCH_LENGTH
            for curve, dice in zip(self.curves[arm], self.control, strict=True)
        ]

    def margins(self, arm: str) -> list[float]:
        """Each fold's final Dice minus the control's."""
        return [final(curve) - dice for curve, dice in zip(self.curves[arm], self.control, strict=True)]


def final(curve: Curve) -> float:
    """Return the Dice at the end of the training."""
    return curve[max(curve)]


def first_reaching(curve: Curve, dice: float) -> float:
    """Return the first measured number of iterations with at least this Dice, infinity if there is none."""
    return min((iterations for iterations, value in curve.items() if value >= dice), default=NEVER)


def read_curves(path: Path) -> dict[str, Curve]:
    """Return the curves by name, of a run's folder or of `curves.json`."""
    if path.is_file():
        content = read_json(path)
    else:
        content = {file.stem: read_json(file)["curve"] for file in sorted((path / "curves").glob("*.json"))}
    return {name: {int(i): dice for i, dice in curve.items()} for name, curve in content.items()}


def setting(curves: Mapping[str, Curve], target: int, cases: int) -> Setting:
    """Return the arms that have all folds."""
    found = {}
    for arm in ARMS:
        names = [curve_name(target, arm.key, cases, fold) for fold in FOLDS]
        if all(name in curves for name in names):
            found[arm.key] = [curves[name] for name in names]
    return Setting(target, cases, found)


def print_tables(settings: Sequence[Setting]) -> None:
    """Print a table of final Dice and ratios, and one of the first Dice, in Markdown."""
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for setting in settings:
        for arm in in_order(setting):
            curves = setting.curves[arm.key]
            ratios = setting.ratios(arm.key)
            scratch = arm.key.startswith(SCRATCH)
            cells = [
                TARGETS[setting.target],
                str(setting.cases),
                arm.title,
                str(arm.length),
                spaced(curve[0] for curve in curves),
                spaced(map(final, curves)),
                f"{statistics.median(map(final, curves)):.3f}",
                "" if scratch else " ".join(map(ratio_text, ratios)),
                "" if scratch else ratio_text(median_of(ratios)),
            ]
            print("| " + " | ".join(cells) + " |")
        print(f"| {TARGETS[setting.target]} | {setting.cases} | *best scratch* | | | {spaced(setting.control)} | | | |")


def median_of(ratios: Sequence[float]) -> float:
    """Return the median; infinite if a middle one is."""
    ordered = sorted(ratios)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return NEVER if NEVER in middle else statistics.mean(middle)


def ratio_text(ratio: float) -> str:
    """Return a ratio as the tables show it."""
    return "–" if ratio == NEVER else "0" if ratio == 0 else f"{ratio:.3g}"


def spaced(values: object) -> str:
    """Return Dice values side by side."""
    return " ".join(f"{value:.3f}".lstrip("0") for value in values)  # type: ignore[attr-defined]


def in_order(setting: Setting) -> list[Arm]:
    """Return the finished arms, scratch first."""
    return [arm for arm in ARMS if arm.key in setting.curves]


def print_goals(settings: Sequence[Setting]) -> None:
    """Print how many comparisons meet the goals, for every transferred arm."""
    for arm in ARMS:
        if arm.key.startswith(SCRATCH):
            continue
        for name, chosen in (
            ("anatomy", [ANATOMY]),
            ("semi-synthetic lesions", [t for t in TARGETS if t not in (ANATOMY, REAL_MS)]),
            ("real lesions", [REAL_MS]),
        ):
            used = [s for s in settings if s.target in chosen and arm.key in s.curves]
            if not used:
                continue
            ratios = [ratio for s in used for ratio in s.ratios(arm.key)]
            margins = [margin for s in used for margin in s.margins(arm.key)]
            print(
                f"{arm.title}, {name}: {len(ratios)} comparisons; before the first step {sum(r == 0 for r in ratios)}; "
                f"at most 0.10 {sum(r <= 0.1 for r in ratios)}; at most 0.25 {sum(r <= 0.25 for r in ratios)}; "
                f"never {sum(r == NEVER for r in ratios)}; median {ratio_text(median_of(ratios))}; final Dice minus best "
                f"scratch: median {statistics.median(margins):+.3f}, {min(margins):+.3f} to {max(margins):+.3f}, "
                f"{sum(m >= -TOLERANCE for m in margins)} not below by more than {TOLERANCE}"
            )


def draw(settings: Sequence[Setting], file: Path) -> None:
    """Draw one panel per setting: thin lines for folds, thick ones for their median."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(settings) // COLUMNS_OF_PANELS)
    height = 0.7 + 2.9 * rows
    figure, axes = plt.subplots(rows, COLUMNS_OF_PANELS, figsize=(10, height), squeeze=False)
    for panel in axes.flat[len(settings) :]:
        panel.set_visible(False)
    for panel, setting in zip(axes.flat, settings, strict=False):
        for arm in in_order(setting):
            curves = setting.curves[arm.key]
            points, colour = sorted(set.intersection(*map(set, curves))), COLOURS[arm.key]
            if len(points) == 2:  # of some trainings of an earlier run only the ends are known
                panel.plot(points[-1:], [statistics.median(map(final, curves))], "D", color=colour, label=arm.title)
                continue
            for curve in curves:
                panel.plot(points, [curve[i] for i in points], color=colour, linewidth=0.5, alpha=0.4)
            median = [statistics.median(curve[i] for curve in curves) for i in points]
            panel.plot(points, median, color=colour, linewidth=2, marker="o", markersize=2.5, label=arm.title)
        panel.set_title(
            f"{TARGETS[setting.target]}, {setting.cases} case{'s' * (setting.cases > 1)}", fontsize="medium"
        )
        panel.set_xscale("symlog", linthresh=25)
        ticks = (0, 50, 200, 800)
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_ylabel("Dice")
        panel.set_xlabel("training iterations")
    handles = {label: h for panel in axes.flat for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), frameon=False, ncols=4, loc="lower center", fontsize="small")
    figure.tight_layout(rect=(0, 0.55 / height, 1, 1))
    figure.savefig(file, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=KEPT)
    parser.add_argument("--keep", type=Path, help="write the curves to this file")
    parser.add_argument("--figure", type=Path)
    parser.add_argument(
        "--cases", type=int, nargs="+", default=sorted(CASES), help="only these numbers of training cases"
    )
    args = parser.parse_args()
    curves = read_curves(args.out)
    if args.keep:
        kept = {name: {i: round(dice, DECIMALS) for i, dice in curve.items()} for name, curve in curves.items()}
        write_json(args.keep, kept)
    settings = [setting(curves, target, cases) for cases in args.cases for target in TARGETS]
    settings = [s for s in settings if any(arm.startswith(SCRATCH) for arm in s.curves) and len(s.curves) > 1]
    print_tables(settings)
    print_goals(settings)
    if args.figure:
        draw(settings, args.figure)


if __name__ == "__main__":
    main()
