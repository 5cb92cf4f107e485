"""Settings of a comparison, shared by the command line, studies and the Python interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nnunet_transfer.evaluation.empties import DEFAULT_EMPTY, check_empty_rule
from nnunet_transfer.evaluation.limits import check_limits
from nnunet_transfer.evaluation.protocols import LesionProtocol, check_distinct, get_protocol
from nnunet_transfer.evaluation.scores import DEFAULT_TOLERANCE_MM, ScoringSettings
from nnunet_transfer.naming import ARMS

DEFAULT_DRAWS = 10_000
DEFAULT_ROPE = 0.01
DEFAULT_BASELINE = next(iter(ARMS))

Protocols: TypeAlias = Sequence[str | LesionProtocol]


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison.

    Attributes
    ----------
    protocols
        Lesion protocols, by name or as objects, for all targets or per data set id.
    surface
        Whether to compute HD95 and NSD.
    tolerance_mm
        Tolerance of the NSD in mm.
    empty
        How to score cases with an empty reference, a key of `EMPTY_RULES`.
    rope
        Half-width of the region of practical equivalence, in Dice.
    draws, seed
        Number of samples and random seed of each bootstrap.
    baseline
        The arm that the others are compared with, with or without suffixes.
    configuration, plans
        nnU-Net configuration and plans; default: the only ones present.
    transfer_plans
        Plans of `nnUNetTrainerTransfer`, which name its sources; default: all that are present.
    allow_missing
        Leave out cases that can't be compared, for all arms.
    tables_only
        Don't write figures or a report.

    Raises
    ------
    SettingsError
        If a value is out of range or unknown.
    """

    protocols: Protocols | Mapping[int, Protocols] = ()
    surface: bool = True
    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    empty: str = DEFAULT_EMPTY
    rope: float = DEFAULT_ROPE
    draws: int = DEFAULT_DRAWS
    seed: int = 0
    baseline: str = DEFAULT_BASELINE
    configuration: str | None = None
    plans: str | None = None
    transfer_plans: tuple[str, ...] | None = None
    allow_missing: bool = False
    tables_only: bool = False

    def __post_init__(self) -> None:
        check_limits(rope=self.rope, tolerance_mm=self.tolerance_mm, draws=self.draws, seed=self.seed)
        check_empty_rule(self.empty)
        every = self.protocols.values() if isinstance(self.protocols, Mapping) else [self.protocols]
        for names in every:
            chosen_protocols(names)

    def protocols_of(self, dataset: str | int) -> tuple[LesionProtocol, ...]:
        """Return the protocols of a target, given by id or by name."""
        if not isinstance(self.protocols, Mapping):
            return chosen_protocols(self.protocols)
        number = int(str(dataset).removeprefix("Dataset").partition("_")[0])
        return chosen_protocols(self.protocols.get(number, ()))

    def scoring(self, dataset: str | int) -> ScoringSettings:
        """Return what is computed for each case of a target."""
        return ScoringSettings(self.protocols_of(dataset), self.surface, self.tolerance_mm)


def chosen_protocols(wanted: Protocols) -> tuple[LesionProtocol, ...]:
    """Return protocols given by name or as objects.

    Raises
    ------
    SettingsError
        If a name is unknown or given twice.
    """
    chosen = tuple(p if isinstance(p, LesionProtocol) else get_protocol(p) for p in wanted)
    check_distinct(chosen)
    return chosen
