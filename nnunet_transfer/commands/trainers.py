"""List the trainers, recipes and name suffixes, or explain trainer names.

Example:
  nnunet_transfer trainers
  nnunet_transfer trainers nnUNetTrainerT1Segmentation_sawtooth_150epochs_seed1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from nnunet_transfer import recipes
from nnunet_transfer.commands.output import terminal_width, wrapped
from nnunet_transfer.naming import (
    ARMS,
    GRAMMAR,
    NNUNET_EPOCHS,
    NNUNET_ITERATIONS,
    PRETRAINERS,
    TRANSFER,
    TrainerName,
    parse_trainer_name,
)
from nnunet_transfer.words import counted

EXAMPLE = TrainerName("nnUNetTrainerT1Segmentation", "sawtooth", epochs=150, seed=1)
SCRATCH = "none: random weights (the control arm)"
FROM_PLANS = "the one named in the plans (nnunet_transfer plan --source NAME)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `trainers`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="names to explain; without any, list everything")


def run(args: argparse.Namespace) -> int:
    """Print the listing, or what each name means."""
    sections = [_explain(name) for name in args.names] or _listing()
    print("\n\n".join(sections))
    return 0


def _listing() -> list[str]:
    arms = [(name, SCRATCH if source is None else source) for name, source in ARMS.items()]
    return [
        _table("arms, and the source each starts from", [*arms, (TRANSFER, FROM_PLANS)]),
        _table("pretrainers, and the task of the source each makes", PRETRAINERS.items()),
        _table("recipes", [(name, recipe.summary) for name, recipe in recipes.RECIPES.items()]),
        f"names\n  {GRAMMAR}\n  for example {EXAMPLE}",
    ]


def _explain(given: str) -> str:
    name = parse_trainer_name(given)
    epochs = NNUNET_EPOCHS if name.epochs is None else name.epochs
    rows = [
        *([("mirroring", "none, neither in training nor in prediction")] if name.no_mirroring else []),
        ("cases", "all training cases of the fold" if name.cases is None else counted(name.cases, "training case")),
        ("epochs", f"{epochs}{_default(name.epochs)}"),
        ("iterations", f"{name.iterations or NNUNET_ITERATIONS} per epoch{_default(name.iterations)}"),
        ("seed", "none: differs from run to run" if name.seed is None else str(name.seed)),
    ]
    recipe = None if name.own_schedule else recipes.RECIPES[name.recipe]
    if recipe is None or name.is_pretrainer:
        makes = ("makes", f"a source for {PRETRAINERS[name.base]}")
        schedule = [] if recipe is None else [("recipe", f"{recipe.name}: {recipe.summary}")]
        return _table(given, [makes, *schedule, *rows])
    source = FROM_PLANS if name.base == TRANSFER else ARMS[name.base] or SCRATCH
    what = "encoder; the decoder starts at random" if name.encoder_only else "encoder and decoder, as far as they fit"
    start = [("source", source)] + ([] if source == SCRATCH else [("loads", what)])
    edges = recipe.boundaries(epochs)
    phases = (
        f"{phase.name} {first}-{end - 1}"
        for phase, first, end in zip(recipe.phases, edges, edges[1:], strict=False)
        if end > first
    )
    schedule = [("recipe", f"{recipe.name}: {recipe.summary}"), ("phases", f"{', '.join(phases)} (epochs from 0)")]
    if left_out := recipe.left_out(epochs):
        schedule.append(("left out", f"{', '.join(left_out)}: too few epochs"))
    return _table(given, [*start, *schedule, *rows])


def _default(value: int | None) -> str:
    return " (nnU-Net's default)" if value is None else ""


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    left = max(len(name) for name, _ in rows) + 2
    width, further = terminal_width(), " " * (2 + left)
    lines = (line for name, text in rows for line in wrapped(text, width, f"  {name:<{left}}", further))
    return "\n".join([title, *lines])
