"""Fine-tuning recipes: the trained parts and learning rates of every epoch, as data and pure functions.

A recipe is the same for all arms, including the control arm, so that arms only differ in their initial weights. The state of
an epoch only depends on its number, never on a counter, so `--c` only needs the epoch of the checkpoint.

Sources of the values:

decay, exponent 0.9
    nnU-Net's PolyLRScheduler (Isensee et al., Nat Methods 2021;18:203-211).
warm-up over 5 %
    50 of 1000 epochs in nnU-Net's fine-tuning of nnssl networks (Wald et al., "An OpenMind for 3D medical vision
    self-supervised learning", ICCV 2025); in `warmup`, `frozenEncoder`, `lpft`, `layerwise` and `l2sp`.
`lpft`, a tenth for the output layers alone
    linear probing then fine-tuning (Kumar et al., "Fine-tuning can distort pretrained features", ICLR 2022), where the
    new head converges first; the share is this package's choice.
`sawtooth`, shares 0.025, 0.025, 0.05 and 0.9
    stages of 25, 25, 50 and 900 of 1000 epochs (TaWald/nnUNet, PretrainedTrainer_sawtooth).
`layerwise`, factor 0.75 per stage
    0.75 per layer when masked autoencoders are fine-tuned (He et al., CVPR 2022, table 9).
`fitted`, `adamw`: AdamW, rate 0.001, weight decay 0.01
    AdamW's default decay (Loshchilov and Hutter, ICLR 2019); similar projects fine-tune U-Nets for medical images with
    rates from 0.0001 to 0.001 (SuPreM, the FOMO25 baseline, asparagus, anatomix). Why the output layers are fitted:
    `finetuning/heads.py`.
`fittedFaster`, three times the rate
    the rate of the pre-trainer's `fitted`; chosen on small networks with short trainings (docs/results/iterations_to_dice.md)
`gentleBody`, a tenth of the rate
    1e-4 for the network, as in SuPreM and the FOMO25 baseline, and 1e-3 for the output layers.
`frozenStem`
    freezing the first layer closes the gap between SGD and AdamW (Kumar et al., "How to fine-tune vision models with SGD",
    arXiv:2211.09359), who freeze it throughout; a tenth is this package's choice.
`l2sp`, strength 0.01
    L2-SP (Li et al., "Explicit inductive bias for transfer learning with convolutional networks", ICML 2018), who choose
    it per data set between 0.001 and 1; 0.01 is this package's choice.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.registration import Registry

#: the parts of a network: the stem is the first convolution, the head consists of the output layers
STEM, ENCODER, DECODER, HEAD = "stem", "encoder", "decoder", "head"
WHOLE = frozenset({STEM, ENCODER, DECODER, HEAD})
DECODER_ALONE = frozenset({DECODER, HEAD})
HEAD_ALONE = frozenset({HEAD})
ALL_BUT_STEM = WHOLE - {STEM}

#: exponent of nnU-Net's polynomial decay
DECAY_EXPONENT = 0.9


@dataclass(frozen=True)
class Phase:
    """A phase of a training.

    Attributes
    ----------
    name
        Name in the log.
    share
        Share of all epochs.
    trained
        Parts whose weights are trained: any of `stem`, `encoder`, `decoder` and `head`.
    rises
        Whether the learning rate rises linearly to its initial value; otherwise it decays polynomially from there.
    """

    name: str
    share: float
    trained: frozenset[str] = WHOLE
    rises: bool = False


@dataclass(frozen=True)
class EpochState:
    """State of one epoch: name of the phase, trained parts, and share of the initial learning rate."""

    phase: str
    trained: frozenset[str]
    factor: float


@dataclass(frozen=True)
class Optimiser:
    """An optimiser and its settings.

    Attributes
    ----------
    kind : `SGD` with nnU-Net's momentum of 0.99, or `AdamW`
    rate : initial learning rate
    weight_decay : in SGD a share of the gradient, in AdamW decoupled from it
    """

    kind: Literal["SGD", "AdamW"]
    rate: float
    weight_decay: float


#: nnU-Net's own
NNUNET_SGD = Optimiser("SGD", 1e-2, 3e-5)
GENTLE_ADAMW = Optimiser("AdamW", 1e-3, 1e-2)
FASTER_ADAMW = Optimiser("AdamW", 3e-3, 1e-2)


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning schedule.

    Attributes
    ----------
    name
        Suffix in trainer names.
    summary
        One line for listings.
    phases
        Phases in order; their shares add up to 1.
    layer_decay
        Factor of the learning rate from one encoder stage to the next one further from the output.
    start_pull
        Strength of the pull towards the initial weights (L2-SP).
    optimiser
        Optimiser and its initial learning rate.
    heads
        How to initialise the output layers. `random`: as nnU-Net does; `fitted`: fit them to training patches before the
        first step; `by name`: copy the weights of labels that the source has by name, and fit the others.
    body_rate
        Factor of the learning rate of all layers except the output layers.
    """

    name: str
    summary: str
    phases: tuple[Phase, ...]
    layer_decay: float = 1.0
    start_pull: float = 0.0
    optimiser: Optimiser = NNUNET_SGD
    heads: Literal["random", "fitted", "by name"] = "random"
    body_rate: float = 1.0

    def boundaries(self, num_epochs: int) -> tuple[int, ...]:
        """Return each phase's first epoch and, at the end, `num_epochs`.

        Shares are rounded to whole epochs. A short training may leave a phase without epochs, but never the last one.
        """
        total, edges = 0.0, [0]
        for phase in self.phases[:-1]:
            total += phase.share
            edges.append(min(round(total * num_epochs), num_epochs - 1))
        return (*edges, num_epochs)

    def at(self, epoch: int, num_epochs: int) -> EpochState:
        """Return phase, trained parts and learning-rate factor in `epoch` (from 0) of `num_epochs`.

        In a phase of n epochs, epoch i (from 0) has the factor (i + 1) / (n + 1) if the rate rises, and (1 - i / n) ** 0.9 if it
        decays.
        """
        edges = self.boundaries(num_epochs)
        number = max(k for k, first in enumerate(edges[:-1]) if first <= epoch)
        phase, i, n = self.phases[number], epoch - edges[number], edges[number + 1] - edges[number]
        factor = (i + 1) / (n + 1) if phase.rises else (1 - i / n) ** DECAY_EXPONENT
        return EpochState(phase.name, phase.trained, factor)

    def left_out(self, num_epochs: int) -> tuple[str, ...]:
        """Return the names of the phases that a training of so few epochs leaves without any."""
        edges = itertools.pairwise(self.boundaries(num_epochs))
        return tuple(phase.name for phase, (first, end) in zip(self.phases, edges, strict=True) if first == end)


_WARM_UP = 0.05
_WARMED_UP = (Phase("warm-up", _WARM_UP, rises=True), Phase("whole network", 1 - _WARM_UP))


def _check_recipe(name: str, recipe: Recipe) -> None:
    if not isinstance(recipe, Recipe) or recipe.name != name:
        raise SettingsError(f"recipe {name}: register a Recipe with this name")
    if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name) or re.search(
        r"^[0-9]|^seed|[0-9](cases|epochs|iterations)$|^(encoderOnly|noMirroring)$", name
    ):
        raise SettingsError(
            f"{name} can't be a suffix of trainers' names: write letters and digits, a small letter first"
        )
    if abs(sum(phase.share for phase in recipe.phases) - 1) > 1e-6:
        raise SettingsError(f"recipe {name}: the shares of its phases must add up to 1")
    # another word would silently stand for SGD, for fitted heads, or for parts that nothing belongs to
    for value, known, what in (
        (recipe.optimiser.kind, ("SGD", "AdamW"), "optimiser"),
        (recipe.heads, ("random", "fitted", "by name"), "way to initialise heads"),
    ):
        if value not in known:
            raise SettingsError(f"recipe {name}: there is no {what} '{value}'; there are: {', '.join(known)}")
    for phase in recipe.phases:
        if not phase.trained or not WHOLE.issuperset(phase.trained):
            found = ", ".join(sorted(map(str, phase.trained))) or "nothing"
            raise SettingsError(f"recipe {name}: '{phase.name}' trains {found}; there are: {', '.join(sorted(WHOLE))}")


RECIPES: Registry[Recipe] = Registry(
    "recipes",
    {
        recipe.name: recipe
        for recipe in (
            Recipe("warmup", "linear warm-up of the learning rate, then nnU-Net's polynomial decay", _WARMED_UP),
            Recipe("full", "nnU-Net's own schedule from the first epoch on", (Phase("whole network", 1.0),)),
            Recipe(
                "frozenEncoder",
                "the encoder stays as the source left it; decoder and heads are trained",
                (
                    Phase("decoder warm-up", _WARM_UP, DECODER_ALONE, rises=True),
                    Phase("decoder", 1 - _WARM_UP, DECODER_ALONE),
                ),
            ),
            Recipe(
                "lpft",
                "the output layers alone first, then the whole network",
                (
                    Phase("output layers", 0.1, HEAD_ALONE),
                    Phase("whole warm-up", _WARM_UP, rises=True),
                    Phase("whole network", 0.9 - _WARM_UP),
                ),
            ),
            Recipe(
                "sawtooth",
                "decoder warm-up, decoder, whole warm-up, whole network",
                (
                    Phase("decoder warm-up", 0.025, DECODER_ALONE, rises=True),
                    Phase("decoder", 0.025, DECODER_ALONE),
                    Phase("whole warm-up", 0.05, rises=True),
                    Phase("whole network", 0.9),
                ),
            ),
            Recipe(
                "layerwise",
                "warm-up, with a learning rate that falls by 0.75 per encoder stage away from the output",
                _WARMED_UP,
                layer_decay=0.75,
            ),
            Recipe(
                "fitted",
                "output layers fitted before the first step, then AdamW at a gentle rate with warm-up and decay (default)",
                _WARMED_UP,
                optimiser=GENTLE_ADAMW,
                heads="fitted",
            ),
            Recipe(
                "byName",
                "as fitted, but outputs for labels that the source has by name are the source's",
                _WARMED_UP,
                optimiser=GENTLE_ADAMW,
                heads="by name",
            ),
            Recipe(
                "fittedFaster",
                "as fitted, at three times the learning rate: for small networks and short trainings",
                _WARMED_UP,
                optimiser=FASTER_ADAMW,
                heads="fitted",
            ),
            Recipe(
                "gentleBody",
                "as fitted, with a tenth of the learning rate for all but the output layers",
                _WARMED_UP,
                optimiser=GENTLE_ADAMW,
                heads="fitted",
                body_rate=0.1,
            ),
            Recipe(
                "frozenStem",
                "as fitted, with a warm-up over a tenth during which the first convolution is frozen",
                (Phase("warm-up without the stem", 0.1, ALL_BUT_STEM, rises=True), Phase("whole network", 0.9)),
                optimiser=GENTLE_ADAMW,
                heads="fitted",
            ),
            Recipe("adamw", "as fitted, with output layers drawn at random", _WARMED_UP, optimiser=GENTLE_ADAMW),
            Recipe("l2sp", "warm-up, with a pull towards the weights it started from", _WARMED_UP, start_pull=0.01),
        )
    },
    _check_recipe,
)
#: recipe of an arm without a recipe in its name; docs/method.md explains the choice
DEFAULT_RECIPE = "fitted"
