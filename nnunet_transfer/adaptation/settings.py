"""The rules of adaptation as text, on the command line and in transfer plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nnunet_transfer.adaptation.steps import AdaptationRules
from nnunet_transfer.errors import SettingsError

MINIMUM = "minimum_encoder"


@dataclass(frozen=True)
class TransferSettings:
    """How to adapt weights, and how much of the encoder must load.

    Attributes
    ----------
    rules
        Which adaptation to use where several are possible.
    minimum_encoder
        Smallest share of the encoder's parameters, including the stem, that must load.
    """

    rules: AdaptationRules = field(default_factory=AdaptationRules)
    minimum_encoder: float = 0.9

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types, in the form that `from_dict` reads."""
        return {**asdict(self.rules), MINIMUM: self.minimum_encoder}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TransferSettings:
        """Return settings from their names and values; missing ones have their defaults.

        Raises
        ------
        SettingsError
            If a name or a value is unknown.
        """
        names = [f.name for f in fields(AdaptationRules)]
        if unknown := [name for name in content if name not in (*names, MINIMUM)]:
            raise SettingsError(f"there is no rule {', '.join(unknown)}; there are: {', '.join(names)}, {MINIMUM}")
        try:
            minimum = float(content.get(MINIMUM, cls.minimum_encoder))
        except (TypeError, ValueError):
            minimum = -1.0
        if not 0 <= minimum <= 1:
            raise SettingsError(f"{MINIMUM} is {content[MINIMUM]}; it must be a number from 0 to 1")
        return cls(AdaptationRules(**{k: str(v) for k, v in content.items() if k != MINIMUM}), minimum)

    @classmethod
    def from_words(cls, words: Sequence[str]) -> TransferSettings:
        """Return settings from words such as `inflation=centre`.

        Raises
        ------
        SettingsError
            If a word has no `=`, or its name or value is unknown.
        """
        if wrong := [word for word in words if "=" not in word]:
            raise SettingsError(f"'{wrong[0]}' is not a rule; write NAME=VALUE, for example inflation=centre")
        return cls.from_dict({name: value for name, _, value in (word.partition("=") for word in words)})
