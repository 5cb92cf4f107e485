"""The grammar of trainer names.

A trainer's name says what was run, because nnU-Net names the result folder after it:
`<base>[_<recipe>][_encoderOnly][_<N>cases][_<N>epochs][_<N>iterations][_seed<K>]`, in this order.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.finetuning.recipes import RECIPES as _RECIPES

#: the arms of the study, in the order of reports: name -> registry name of its source
ARMS: dict[str, str | None] = {
    "nnUNetTrainerScratch": None,
    "nnUNetTrainerNaturalClassification": "natural_classification",
    "nnUNetTrainerNaturalSegmentation": "natural_segmentation",
    "nnUNetTrainerNaturalSelfSupervised": "natural_self_supervised",
    "nnUNetTrainerT1Classification": "t1_classification",
    "nnUNetTrainerT1Segmentation": "t1_segmentation",
    "nnUNetTrainerT1SelfSupervised": "t1_self_supervised",
}
#: takes its source from the `transfer` block of the plans
TRANSFER = "nnUNetTrainerTransfer"
#: pretrainer -> source task of what it makes
PRETRAINERS: dict[str, str] = {
    "nnUNetPretrainerClassification": "classification",
    "nnUNetPretrainerSegmentation": "segmentation",
    "nnUNetPretrainerSelfSupervised": "self_supervised",
}
BASES: tuple[str, ...] = (*ARMS, TRANSFER, *PRETRAINERS)

#: recipe -> one line for listings; the default is the first
RECIPES: dict[str, str] = {name: recipe.summary for name, recipe in _RECIPES.items()}
DEFAULT_RECIPE = next(iter(RECIPES))


@dataclass(frozen=True)
class TrainerName:
    """The parts of a trainer's name; `None` means nnU-Net's default.

    Attributes
    ----------
    base : one of `BASES`
    recipe : one of `RECIPES`
    encoder_only : load the encoder only, start the decoder at random
    cases : number of training cases
    epochs, iterations : number of epochs, and of training iterations per epoch
    seed : seed of initialisation, sampling and augmentation
    """

    base: str
    recipe: str = DEFAULT_RECIPE
    encoder_only: bool = False
    cases: int | None = None
    epochs: int | None = None
    iterations: int | None = None
    seed: int | None = None

    def __str__(self) -> str:
        suffixes = [
            "" if self.recipe == DEFAULT_RECIPE else f"_{self.recipe}",
            "_encoderOnly" if self.encoder_only else "",
            "" if self.cases is None else f"_{self.cases}cases",
            "" if self.epochs is None else f"_{self.epochs}epochs",
            "" if self.iterations is None else f"_{self.iterations}iterations",
            "" if self.seed is None else f"_seed{self.seed}",
        ]
        return self.base + "".join(suffixes)

    @property
    def is_pretrainer(self) -> bool:
        """Whether this name makes a source rather than fine-tunes one."""
        return self.base in PRETRAINERS


_NUMBERED = (
    ("cases", r"(\d+)cases"),
    ("epochs", r"(\d+)epochs"),
    ("iterations", r"(\d+)iterations"),
    ("seed", r"seed(\d+)"),
)
_ORDER = ("recipe", "encoder_only", "cases", "epochs", "iterations", "seed")
GRAMMAR = "NAME[_<recipe>][_encoderOnly][_<N>cases][_<N>epochs][_<N>iterations][_seed<K>]"


def is_ours(name: str) -> bool:
    """Whether `name` is meant to be one of this package's trainers (it starts like one)."""
    return name.split("_", 1)[0] in BASES


def parse_trainer_name(name: str) -> TrainerName:
    """Read a trainer's name.

    Raises
    ------
    SettingsError
        If the base name or a suffix is unknown, out of order, given twice, or a number is 0.
    """
    base, *suffixes = name.split("_")
    if base not in BASES:
        near = difflib.get_close_matches(base, BASES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(BASES)}"
        raise SettingsError(f"unknown trainer {base}{hint}")
    parsed = TrainerName(base)
    last = -1
    for suffix in suffixes:
        field, value = _read_suffix(name, suffix)
        position = _ORDER.index(field)
        if position <= last:
            raise SettingsError(f"{name}: suffix _{suffix} is given twice or out of order; the order is {GRAMMAR}")
        last = position
        parsed = replace(parsed, **{field: value})
    if str(parsed) != name and parsed.recipe != DEFAULT_RECIPE:
        raise SettingsError(f"{name}: write it as {parsed} (no leading zeros)")
    if parsed.is_pretrainer and parsed.encoder_only:
        raise SettingsError(f"{name}: _encoderOnly says what an arm loads; a pretrainer loads nothing")
    return parsed


def _read_suffix(name: str, suffix: str) -> tuple[str, str | bool | int]:
    if suffix in RECIPES:
        return "recipe", suffix
    if suffix == "encoderOnly":
        return "encoder_only", True
    for field, pattern in _NUMBERED:
        if match := re.fullmatch(pattern, suffix):
            number = int(match[1])
            if number == 0 and field != "seed":
                raise SettingsError(f"{name}: _{suffix} must be at least 1")
            return field, number
    known = [*RECIPES, "encoderOnly", "<N>cases", "<N>epochs", "<N>iterations", "seed<K>"]
    letters = re.sub(r"\d+", "", suffix)
    near = difflib.get_close_matches(letters, {re.sub(r"<\w>", "", k): k for k in known}, n=1, cutoff=0.6)
    hint = f"did you mean _{next(k for k in known if re.sub(r'<.>', '', k) == near[0])}? " if near else ""
    raise SettingsError(
        f"{name}: unknown suffix _{suffix}; {hint}the grammar is {GRAMMAR} with recipes {', '.join(RECIPES)}"
    )
