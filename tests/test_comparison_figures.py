"""What the figures of a comparison are drawn from, and where their marks stand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.comparison import (
    alt_texts,
    figures,
    figures_lesions,
    figures_training,
)
from nnunet_transfer.comparison.grid import grid_table
from nnunet_transfer.comparison.lesions import STRATA
from nnunet_transfer.comparison.results import Arm, Run, short_titles
from nnunet_transfer.comparison.training_logs import read_epochs
from nnunet_transfer.naming import TrainerName, parse_trainer_name


@pytest.mark.parametrize("n_arms", [2, 14])
def test_the_arms_of_a_stratum_stay_apart_from_those_of_the_next(n_arms: int) -> None:
    arms = [SimpleNamespace(name=str(i), title=f"A{i}", domain="", task="") for i in range(n_arms)]
    sizes = pd.DataFrame(
        [
            {
                "protocol": "p",
                "arm": arm.name,
                "stratum": s,
                "sensitivity": 0.5,
                "low": 0.25,
                "high": 0.75,
                "n_lesions": 3,
            }
            for arm in arms
            for s in STRATA[:3]
        ]
    )
    drawn = figures_lesions.size_sensitivity(SimpleNamespace(arms=arms, sizes=sizes), "p")  # type: ignore[arg-type]
    x = np.array([container[0].get_xdata() for container in drawn.axes[0].containers])
    assert x.shape == (n_arms, 3)
    assert (x[:, 1:].min(axis=0) - x[:, :-1].max(axis=0)).min() > 0.15
    assert (np.diff(x, axis=0) > 0.05).all()
    plt.close(drawn)


def test_each_arms_training_is_drawn_beside_that_of_its_own_baseline() -> None:
    arms = [SimpleNamespace(name=n, title=n, domain="", task="") for n in ("s1", "s2", "a1", "a2", "n")]
    values = {"s1": 0.25, "s2": 0.5, "a1": 0.75, "a2": 1.0, "n": 0.125}
    curves = pd.DataFrame(
        [
            {"arm": arm, "seed": 0, "fold": fold, "epoch": epoch, "pseudo_dice": value}
            for arm, value in values.items()
            for fold in (0, 1)
            for epoch in (0, 1)
        ]
    )
    baselines = {"s1": "s1", "s2": "s2", "a1": "s1", "a2": "s2"}
    drawn = figures_training.training(SimpleNamespace(arms=arms, baseline="s1", baselines=baselines), curves)  # type: ignore[arg-type]
    grey = [[line.get_ydata()[0] for line in a.lines if line.get_color() == figures_training.GREY] for a in drawn.axes]
    assert grey[:5] == [[], [], [0.25], [0.5], [0.25]]
    drawn.canvas.draw()
    # five panels in rows of four: those of the first row that have none below them, and the last, have their ticks named
    named = [any(label.get_visible() and label.get_text() for label in a.get_xticklabels()) for a in drawn.axes[:5]]
    assert named == [False, True, True, True, True]
    assert [tick for tick in drawn.axes[1].get_xticks() if tick % 1] == []  # epochs are whole
    plt.close(drawn)


def test_the_grid_has_a_panel_for_every_recipe_and_every_cell_of_the_table() -> None:
    arms = [
        ("lpft", "classification", "natural images", 0.09),
        ("lpft", "segmentation", "T1 brain MRI", 0.142),
        ("sawtooth", "classification", "natural images", -0.063),
        ("sawtooth", "segmentation", "T1 brain MRI", -0.135),
    ]
    table = pd.DataFrame(arms, columns=["panel", "task", "domain", "difference"])
    # the baseline is one of the sources: its cell has no difference, but it was trained
    trainer = TrainerName("nnUNetTrainerT1Classification", "lpft")
    title = "T1 classification (lpft)"
    baseline = Arm(str(trainer), title, trainer, "t1_classification", "classification", "T1 brain MRI")
    result = SimpleNamespace(
        grid=table, target=SimpleNamespace(title="stroke"), arms=(baseline,), baselines={"x": baseline.name}
    )
    drawn = figures.grid([result])  # type: ignore[list-item]
    assert drawn is not None
    panels = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in drawn.axes if axis.get_title()}
    assert set(panels) == {"stroke: lpft", "stroke: sawtooth"}
    for name, _, _, value in arms:
        assert f"{value:+.3f}".replace("-", "−") in [t.replace("-", "−") for t in panels[f"stroke: {name}"]]
    assert panels["stroke: lpft"].count("baseline") == 1
    assert "baseline" not in panels["stroke: sawtooth"]
    assert sum(text not in ("not run", "baseline") for texts in panels.values() for text in texts) == len(arms)
    plt.close(drawn)
    words = alt_texts.grid([result])  # type: ignore[list-item]
    assert "Classification on natural images, lpft +0.090; segmentation on T1 brain MRI, lpft +0.142" in words
    # several lengths of one source
    result.grid, result.arms = table[table["task"] == "segmentation"], ()
    assert figures.grid([result]) is None  # type: ignore[list-item]


def test_arms_that_found_as_many_lesions_are_not_told_apart() -> None:
    sizes = pd.DataFrame({"protocol": "p", "stratum": STRATA[0], "arm": ["a", "b", "c"], "sensitivity": 0.5})
    result = SimpleNamespace(sizes=sizes, title_of=str.upper)
    assert alt_texts.sizes(result, "p") == "Of lesions of < 0.01 ml, every arm found 50 %."  # type: ignore[arg-type]
    result.sizes = sizes.assign(sensitivity=[0.5, 0.25, 0.75])
    assert alt_texts.sizes(result, "p").endswith("the arms found 25 % (B) to 75 % (C).")  # type: ignore[arg-type]


def test_names_of_arms_keep_their_first_letter_in_descriptions() -> None:
    result = SimpleNamespace(summary=pd.DataFrame({"title": ["t1_ours", "Scratch"], "dice_median": [0.5, 0.4]}))
    assert alt_texts.dots(result) == "Median Dice of each arm: t1_ours 0.500; Scratch 0.400."  # type: ignore[arg-type]


def test_panels_of_the_grid_leave_out_what_all_arms_share() -> None:
    runs = []
    for base, title, suffix in (
        ("Scratch", "Scratch", "100epochs"),
        ("T1Segmentation", "T1 segmentation", "100epochs"),
        ("T1Segmentation", "T1 segmentation", "lpft_100epochs"),
    ):
        trainer = parse_trainer_name(f"nnUNetTrainer{base}_{suffix}")
        kind = () if base == "Scratch" else ("t1_segmentation", "segmentation", "T1 brain MRI")
        arm = Arm(str(trainer), f"{title} ({suffix.replace('_', ', ')})", trainer, *kind)
        runs.append(Run(arm, None, Path(f"{trainer}__p__2d"), "p", "2d"))
    arms = [run.arm for run in short_titles(runs)]
    tests = pd.DataFrame({"arm": [arm.name for arm in arms], "metric": "dice", "n_subjects": 9})
    tests = tests.assign(compared_with="", difference=0.1, headline_low=0.0, headline_high=0.2)
    assert list(grid_table(arms, tests)["panel"]) == ["", "lpft"]


def test_panels_of_the_grid_are_named_after_sources_and_after_versions_only_if_one_has_several() -> None:
    trainer = parse_trainer_name("nnUNetTrainerTransfer")
    arms = [
        Arm(f"{source}@{version}", source, trainer, source, "segmentation", "T1 brain MRI", version)
        for source, version in (("tissues", "a" * 64), ("lesions", "b" * 64), ("lesions", "c" * 64))
    ]
    tests = pd.DataFrame({"arm": [arm.name for arm in arms], "metric": "dice", "n_subjects": 9})
    tests = tests.assign(compared_with="", difference=0.1, headline_low=0.0, headline_high=0.2)
    assert list(grid_table(arms, tests)["panel"]) == ["", "lesions", "lesions@cccccccc"]


def test_the_training_logs_are_read_as_nnunet_writes_them(tmp_path: Path) -> None:
    def log(epochs: range, shift: float) -> str:
        lines = ["This is the configuration used by this training: Epoch 99"]
        for epoch in epochs:
            for text in (
                f"Epoch {epoch} ",
                "Current learning rate: 0.01 ",
                f"train_loss {-0.1 * epoch + shift:.4f} ",
                f"val_loss {-0.05 * epoch + shift:.4f} ",
                f"Pseudo dice [np.float32({0.1 * epoch:.4f}), np.float32(nan), {0.1 * epoch + 0.2:.4f}] ",
                "Epoch time: 12.5 s ",
            ):
                lines.append(f"2026-01-01 10:00:00.000001: {text}")
        return "\n".join([*lines, "2026-01-01 10:00:00.000001: Epoch 77 ", ""])

    (tmp_path / "training_log_2026_1_01.txt").write_text(log(range(3), 0))
    (tmp_path / "training_log_2026_1_02.txt").write_text(log(range(2, 5), 1))  # continued with --c
    found = read_epochs(tmp_path)
    assert list(found) == [0, 1, 2, 3, 4]
    assert found[1] == pytest.approx({"train_loss": -0.1, "val_loss": -0.05, "pseudo_dice": 0.2, "seconds": 12.5})
    assert found[2]["train_loss"] == pytest.approx(0.8)
    # months and days have no leading zeros
    (tmp_path / "training_log_2026_1_10_09_00_00.txt").write_text(log(range(2, 5), 2))
    (tmp_path / "training_log_2026_1_9_10_00_00.txt").write_text(log(range(2, 5), 3))
    assert read_epochs(tmp_path)[2]["train_loss"] == pytest.approx(1.8)
    assert read_epochs(tmp_path / "nowhere") == {}
