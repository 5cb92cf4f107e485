"""Read the curves of `run.py`: print the tables of the write-up, check the goals, draw the figure.

    python table.py [OUT] [--of main|long|ms|lengths|3d] [--keep FILE] [--figure FILE] [--cases N ...] [--arms KEY ...]

Without OUT it reads `curves.json`, the curves that the write-up shows, as `--keep` writes them. A setting counts once it has
all folds of an arm. The control of a fold is the best final Dice of all scratch recipes that were run in this setting:
chosen on the validation cases themselves, so in favour of scratch. `--of` chooses the curves of `run_long.py`, `run_ms.py`,
`run_lengths.py` or `run_3d.py` instead of those of `run.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import run
import run_3d
import run_lengths
import run_long
import run_ms
from run import ANATOMY, CASES, FOLDS, REAL_MS, Arm, curve_name

from nnunet_transfer.files import read_json, write_json

TARGETS = {**run.TARGETS, **{target: f"{title}, 3D" for target, title in run_3d.TITLES.items()}}
#: which arms are shown together, on which targets, with which numbers of cases, in which folds
STUDIES = {
    "main": (run.ARMS, tuple(run.TARGETS), tuple(sorted(CASES)), FOLDS),
    "long": (run_long.ARMS, tuple(run.TARGETS), (run_long.CASES,), run_long.FOLDS),
    "ms": ((*run.ARMS, *run_ms.ARMS), (run.MS,), (run_ms.CASES,), FOLDS),
    "lengths": (
        (*run.FROM_SCRATCH, *run_lengths.JOINED, *run_lengths.TRANSFERRED),
        run.LESION_TARGETS,
        tuple(sorted(CASES)),
        FOLDS,
    ),
    "3d": (run_3d.ARMS, tuple(run_3d.TITLES), (run_3d.CASES,), FOLDS),
}
Curve = dict[int, float]
NEVER = float("inf")
COLUMNS = (
    "target",
    "cases",
    "arm",
    "iterations",
    "before the first step",
    "final Dice by fold",
    "median",
    "ratio by fold",
    "median",
)
#: panels side by side; a few fit into one row
COLUMNS_OF_PANELS, ONE_ROW = 3, 4
ANATOMIES = (ANATOMY, run_3d.ANATOMY)
#: targets whose comparisons are counted together
GROUPS = {
    "anatomy": ANATOMIES,
    "semi-synthetic lesions": tuple(t for t in TARGETS if t not in (*ANATOMIES, REAL_MS)),
    "real lesions": (REAL_MS,),
}
#: ratios that the goals name
LIMITS = (0.1, 0.25)
GOALS = (
    "arm",
    "targets",
    "comparisons",
    "before the first step",
    *(f"at most {limit:.2f}" for limit in LIMITS),
    "never",
    "median ratio",
    "final Dice minus best scratch",
    "not below by more than 0.01",
)
#: final Dice may be so much below the best scratch
TOLERANCE = 0.01
COLOURS = {
    "scratch-sgd": "#C8C8C8",
    "scratch-adamw": "#999999",
    "scratch-fitted": "#666666",
    "scratch-fitted-faster": "#000000",
    "natural-fitted": "#2A9D4E",
    "t1seg-fitted": "#7FC4E8",
    "t1seg-byname": "#B9A6E8",
    "t1seg-long-fitted": "#2F7BE0",
    "t1seg-long-fitted-faster": "#0B3BA8",
    "lesion-fitted": "#F2B5A0",
    "lesion-long-fitted": "#E0574A",
    "lesion-long-fitted-faster": "#8E1B2E",
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
    arms: tuple[Arm, ...]
    curves: dict[str, list[Curve]]

    @property
    def controls(self) -> list[list[Curve]]:
        """The curves from scratch, one list per recipe."""
        return [self.curves[arm.key] for arm in self.arms if is_scratch(arm)]

    @property
    def control(self) -> list[float]:
        """Each fold's best final Dice from scratch."""
        return [max(final(curves[i]) for curves in self.controls) for i in range(len(self.controls[0]))]

    @property
    def length(self) -> int:
        """Iterations of the trainings from scratch."""
        return max(max(curve) for curves in self.controls for curve in curves)

    def ratios(self, arm: str) -> list[float]:
        """Each fold's iterations to the control's Dice, relative to the length of a training from scratch."""
        return [
            first_reaching(curve, dice) / self.length
            for curve, dice in zip(self.curves[arm], self.control, strict=True)
        ]

    def margins(self, arm: str) -> list[float]:
        """Each fold's final Dice minus the control's."""
        return [final(curve) - dice for curve, dice in zip(self.curves[arm], self.control, strict=True)]


def is_scratch(arm: Arm) -> bool:
    """Whether the arm is a control."""
    return arm.trainer == "nnUNetTrainerScratch"


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


def setting(
    curves: Mapping[str, Curve],
    arms: Sequence[Arm],
    target: int,
    cases: int,
    folds: Sequence[int],
) -> Setting:
    """Return the arms that have all folds."""
    found = {}
    for arm in arms:
        names = [curve_name(target, arm.key, cases, fold) for fold in folds]
        if all(name in curves for name in names):
            found[arm.key] = [curves[name] for name in names]
    return Setting(target, cases, tuple(arm for arm in arms if arm.key in found), found)


def print_tables(settings: Sequence[Setting]) -> None:
    """Print a table of final Dice and ratios, and one of the first Dice, in Markdown."""
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for setting in settings:
        for arm in setting.arms:
            curves = setting.curves[arm.key]
            ratios = setting.ratios(arm.key)
            scratch = is_scratch(arm)
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


def print_goals(settings: Sequence[Setting]) -> None:
    """Print, in Markdown, how many comparisons meet the goals, for every transferred arm."""
    print(f"\n| {' | '.join(GOALS)} |")
    print("|---" * len(GOALS) + "|")
    arms = {arm.key: arm for setting in settings for arm in setting.arms if not is_scratch(arm)}
    for arm in arms.values():
        for name, chosen in GROUPS.items():
            used = [s for s in settings if s.target in chosen and arm.key in s.curves]
            if not used:
                continue
            ratios = [ratio for s in used for ratio in s.ratios(arm.key)]
            margins = [margin for s in used for margin in s.margins(arm.key)]
            cells = [
                arm.title,
                name,
                len(ratios),
                sum(r == 0 for r in ratios),
                *(sum(r <= limit for r in ratios) for limit in LIMITS),
                sum(r == NEVER for r in ratios),
                ratio_text(median_of(ratios)),
                f"{signed(statistics.median(margins))} ({signed(min(margins))} to {signed(max(margins))})",
                sum(m >= -TOLERANCE for m in margins),
            ]
            print(f"| {' | '.join(map(str, cells))} |")


def signed(difference: float) -> str:
    """Return a difference in Dice with its sign."""
    return f"{difference:+.3f}".replace("-", "−")


def draw(settings: Sequence[Setting], file: Path, keys: Sequence[str] | None = None) -> None:
    """Draw one panel per setting, with all arms or those of `keys`: thin lines for folds, thick ones for their median."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    settings = sorted(settings, key=lambda s: s.target == REAL_MS)  # it has one number of cases alone
    columns = len(settings) if len(settings) <= ONE_ROW else COLUMNS_OF_PANELS
    rows = -(-len(settings) // columns)
    shown = {arm.key for setting in settings for arm in setting.arms if keys is None or arm.key in keys}
    legend = 0.25 + 0.17 * -(-len(shown) // columns)
    height = 0.3 + legend + 2.7 * rows
    figure, axes = plt.subplots(rows, columns, figsize=(max(10, 3 * columns), height), squeeze=False)
    for panel in axes.flat[len(settings) :]:
        panel.set_visible(False)
    for panel, setting in zip(axes.flat, settings, strict=False):
        for arm in (arm for arm in setting.arms if arm.key in shown):
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
    figure.legend(handles.values(), handles.keys(), frameon=False, ncols=columns, loc="lower center", fontsize="small")
    figure.tight_layout(rect=(0, legend / height, 1, 1))
    figure.savefig(file, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=KEPT)
    parser.add_argument("--keep", type=Path, help="write the curves to this file")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--of", choices=STUDIES, default="main", help="which curves (default: those of run.py)")
    parser.add_argument("--cases", type=int, nargs="+", help="only these numbers of training cases")
    parser.add_argument("--arms", nargs="+", metavar="KEY", help="draw only these arms")
    args = parser.parse_args()
    curves = read_curves(args.out)
    if args.keep:
        kept = {name: {i: round(dice, DECIMALS) for i, dice in curve.items()} for name, curve in curves.items()}
        write_json(args.keep, kept)
    curves |= run_lengths.join(curves)
    arms, targets, numbers, folds = STUDIES[args.of]
    settings = [setting(curves, arms, target, n, folds) for n in args.cases or numbers for target in targets]
    settings = [s for s in settings if any(map(is_scratch, s.arms)) and len(s.arms) > 1]
    print_tables(settings)
    print_goals(settings)
    if args.figure:
        draw(settings, args.figure, args.arms)


if __name__ == "__main__":
    main()
