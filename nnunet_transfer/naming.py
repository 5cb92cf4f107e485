"""The grammar of trainer names.

A trainer's name contains its settings, because nnU-Net names the result folder after it:
`<base>[_<recipe>][_encoderOnly][_noMirroring][_<N>cases][_<N>epochs][_<N>iterations][_seed<K>]`, in this order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.recipes import DEFAULT_RECIPE, RECIPES
from nnunet_transfer.registration import Registry, did_you_mean, nearest


def _check_arm(name: str, source: str | None) -> None:
    if not re.fullmatch(r"nnUNetTrainer[A-Za-z0-9]+", name):
        raise SettingsError(f"{name} can't name an arm: write nnUNetTrainer and letters or digits, without '_'")
    if not isinstance(source, str) or not source:
        raise SettingsError(f"{name}: an arm starts from a source; give the source's name in the registry")


#: the arms of the study, in the order of reports: name -> registry name of its source
ARMS: Registry[str | None] = Registry(
    "arms",
    {
        "nnUNetTrainerScratch": None,
        "nnUNetTrainerNaturalClassification": "natural_classification",
        "nnUNetTrainerNaturalSegmentation": "natural_segmentation",
        "nnUNetTrainerNaturalSelfSupervised": "natural_self_supervised",
        "nnUNetTrainerT1Classification": "t1_classification",
        "nnUNetTrainerT1Segmentation": "t1_segmentation",
        "nnUNetTrainerT1SelfSupervised": "t1_self_supervised",
    },
    _check_arm,
)
#: trainer that takes its source from the `transfer` block of the plans
TRANSFER = "nnUNetTrainerTransfer"
#: of a trainer whose name states none (nnunetv2 2.8, nnUNetTrainer.__init__: num_epochs, num_iterations_per_epoch)
NNUNET_EPOCHS, NNUNET_ITERATIONS = 1000, 250
#: stands for the recipe of a trainer with its own schedule: nnU-Net's trainers, and pretrainers without a recipe
OWN_SCHEDULE = ""
SIMCLR = "nnUNetPretrainerSimCLR"
#: pretrainer -> task of its source; the first pretrainer of a task is its default
PRETRAINERS: dict[str, str] = {
    "nnUNetPretrainerClassification": "classification",
    "nnUNetPretrainerSegmentation": "segmentation",
    "nnUNetPretrainerSelfSupervised": "self_supervised",
    "nnUNetPretrainerModelsGenesis": "self_supervised",
    SIMCLR: "self_supervised",
}
#: the pretrainer that can use a recipe instead of nnU-Net's schedule, and the recipes that need no source
SEGMENTATION_PRETRAINER = "nnUNetPretrainerSegmentation"
PRETRAINING_RECIPES = ("adamw", "fitted")
#: source task -> its default pretrainer
DEFAULT_PRETRAINERS: dict[str, str] = {task: name for name, task in reversed(PRETRAINERS.items())}


def bases() -> tuple[str, ...]:
    """Return the names without suffixes: arms, registered ones included, and pretrainers."""
    return (*ARMS, TRANSFER, *PRETRAINERS)


def default_recipe(base: str) -> str:
    """Return the recipe of a trainer without a recipe in its name."""
    return DEFAULT_RECIPE if base == TRANSFER or base in ARMS else OWN_SCHEDULE


def _is_base(name: str) -> bool:
    return name == TRANSFER or name in PRETRAINERS or name in ARMS


@dataclass(frozen=True)
class TrainerName:
    """The parts of a trainer's name; `None` means nnU-Net's default.

    Attributes
    ----------
    base : one of `bases()`
    recipe : one of `RECIPES`, or empty for a trainer with its own schedule; default: that of `base`
    encoder_only : load the encoder only, start the decoder at random
    cases : number of training cases
    epochs, iterations : number of epochs, and of training iterations per epoch
    seed : seed of initialisation, sampling and augmentation
    no_mirroring : no mirroring, neither of training patches nor of images in inference
    """

    base: str
    recipe: str = OWN_SCHEDULE
    encoder_only: bool = False
    cases: int | None = None
    epochs: int | None = None
    iterations: int | None = None
    seed: int | None = None
    no_mirroring: bool = False

    def __post_init__(self) -> None:
        if self.recipe == OWN_SCHEDULE:
            object.__setattr__(self, "recipe", default_recipe(self.base))

    def __str__(self) -> str:
        suffixes = [
            "" if self.recipe == default_recipe(self.base) else f"_{self.recipe}",
            "_encoderOnly" if self.encoder_only else "",
            "_noMirroring" if self.no_mirroring else "",
            "" if self.cases is None else f"_{self.cases}cases",
            "" if self.epochs is None else f"_{self.epochs}epochs",
            "" if self.iterations is None else f"_{self.iterations}iterations",
            "" if self.seed is None else f"_seed{self.seed}",
        ]
        return self.base + "".join(suffixes)

    @property
    def is_pretrainer(self) -> bool:
        """Whether this trainer makes a source instead of fine-tuning one."""
        return self.base in PRETRAINERS

    @property
    def total_iterations(self) -> int:
        """Number of training iterations of the whole training."""
        return (self.epochs or NNUNET_EPOCHS) * (self.iterations or NNUNET_ITERATIONS)

    @property
    def own_schedule(self) -> bool:
        """Whether this trainer has its own schedule, without a recipe."""
        return self.recipe == OWN_SCHEDULE


#: suffix with a number -> its field in `TrainerName`; {} stands for the number
_NUMBERED: dict[str, str] = {
    "{}cases": "cases",
    "{}epochs": "epochs",
    "{}iterations": "iterations",
    "seed{}": "seed",
}
#: suffix without a number -> its field
_WORDS: dict[str, str] = {"encoderOnly": "encoder_only", "noMirroring": "no_mirroring"}
_ORDER = ("recipe", *_WORDS.values(), *_NUMBERED.values())
GRAMMAR = "NAME[_<recipe>][_encoderOnly][_noMirroring][_<N>cases][_<N>epochs][_<N>iterations][_seed<K>]"
#: similarity from 0 to 1, ignoring case, from which a base name counts as misspelt: one wrong letter in the shortest name
#: gives 0.95, and no two of our names are that similar
_MISSPELT = 0.94
#: nine digits are enough for any run and keep folder names short
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def is_ours(name: str) -> bool:
    """Whether `name` starts like one of this package's trainers."""
    return _is_base(name.split("_", 1)[0])


def follows_grammar(name: str) -> bool:
    """Whether a whole name is one of this package's trainers, not that of somebody's own class with a prefix of ours."""
    try:
        parse_trainer_name(name)
    except SettingsError:
        return False
    return True


def is_nearly_ours(name: str) -> bool:
    """Whether `name` looks like a misspelt trainer of this package, and not like one of nnU-Net or a user."""
    base = name.split("_", 1)[0]
    known = [own.lower() for own in bases()]
    return not _is_base(base) and bool(nearest(base.lower(), known, similarity=_MISSPELT))


def parse_trainer_name(name: str) -> TrainerName:
    """Read a trainer's name.

    Two different names only mean the same if one of them states the default recipe.

    Raises
    ------
    SettingsError
        If the base name or a suffix is unknown, out of order or given twice, or if a number is 0 (other than a seed),
        has leading zeros or more than nine digits.
    """
    base, *suffixes = name.split("_")
    if not _is_base(base):
        raise SettingsError(f"unknown trainer {base}; {did_you_mean(base, bases())}")
    values: dict[str, Any] = {}
    last = -1
    for suffix in suffixes:
        field, value = _read_suffix(name, suffix)
        position = _ORDER.index(field)
        if position <= last:
            problem = "is out of order"
            if field in values:
                another = field == "recipe" and value != values[field]
                problem = "is a second recipe" if another else "is given twice"
            raise SettingsError(f"{name}: suffix _{suffix} {problem}; the order is {GRAMMAR}")
        last = position
        values[field] = value
    parsed = TrainerName(base, **values)
    if parsed.encoder_only and (parsed.is_pretrainer or ARMS.get(base, base) is None):
        nothing = "a pretrainer" if parsed.is_pretrainer else f"{base}, the control arm,"
        raise SettingsError(f"{name}: _encoderOnly says what an arm loads; {nothing} loads nothing")
    takes_recipe = parsed.base == SEGMENTATION_PRETRAINER and parsed.recipe in PRETRAINING_RECIPES
    if parsed.is_pretrainer and "recipe" in values and not takes_recipe:
        raise SettingsError(
            f"{name}: _{parsed.recipe} is a recipe for fine-tuning; a pretrainer has its own schedule, except that "
            f"{SEGMENTATION_PRETRAINER} takes _{' or _'.join(PRETRAINING_RECIPES)}"
        )
    if parsed.base == SIMCLR and parsed.no_mirroring:
        raise SettingsError(f"{name}: SimCLR itself mirrors images; use another pretrainer, or leave _noMirroring out")
    return parsed


def _read_suffix(name: str, suffix: str) -> tuple[str, str | bool | int]:
    """Return the field of `TrainerName` that a suffix sets, and its value."""
    if suffix in RECIPES:
        return "recipe", suffix
    if suffix in _WORDS:
        return _WORDS[suffix], True
    for form, field in _NUMBERED.items():
        if match := re.fullmatch(form.format("([0-9]+)"), suffix):
            if not _NUMBER.fullmatch(match[1]):
                raise SettingsError(f"{name}: write _{suffix} without leading zeros and with at most nine digits")
            if match[1] == "0" and field != "seed":
                raise SettingsError(f"{name}: _{suffix} must be at least 1")
            return field, int(match[1])
    raise SettingsError(
        f"{name}: unknown suffix _{suffix}; {_suggestion(suffix)}the grammar is {GRAMMAR}, "
        f"the recipes are {', '.join(RECIPES)}"
    )


def _suggestion(suffix: str) -> str:
    """Return `did you mean ...? ` for the most similar suffix, or nothing if none is similar."""
    numbers = re.findall("[0-9]+", suffix)
    number = numbers[0] if len(numbers) == 1 else ""  # 1.5 is not a misspelt 15
    letters = re.sub("[0-9]", "", suffix).lower()
    known = {form.format("").lower(): form.format(number or "<N>") for form in _NUMBERED}
    known |= {word.lower(): word for word in (*RECIPES, *_WORDS)}
    if suffix.lower().startswith("seed"):
        return f"a seed is a whole number: _seed{number or '<K>'}; "
    near = nearest(letters, known)
    return f"did you mean _{known[near[0]]}? " if near else ""
