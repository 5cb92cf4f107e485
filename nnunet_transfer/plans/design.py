"""What a profile or a source determines of plans: architecture, memory and, if wished, spacing, normalisation, patch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nnunet_transfer.errors import PlansError
from nnunet_transfer.plans.architectures import Architecture, from_card, with_dimensions
from nnunet_transfer.plans.profiles import PLAIN_8GB, RESENC_M, Memory, Profile, get_profile
from nnunet_transfer.sources import SourceCard, load_source
from nnunet_transfer.sources.registry import registered_name

#: settings that a source may determine besides the architecture
FOLLOW = ("spacing", "normalization", "patch_size")
#: network classes whose memory follows the scale of nnU-Net's residual encoders
_RESIDUAL = ("ResidualEncoderUNet", "STUNet")


def plans_name_for(*, profile: str | None = None, source: str | None = None) -> str:
    """Return the name of the plans for a profile, a source, or a source in a profile's architecture."""
    return "_".join(("nnUNetPlans", *([profile] if profile else []), *([f"from_{source}"] if source else [])))


@dataclass(frozen=True)
class Design:
    """Settings that a profile or a source determines."""

    label: str
    plans_name: str
    architectures: Mapping[int, Architecture]
    memory: Memory
    card: SourceCard | None = None
    spacing: tuple[float, ...] = ()
    normalization: tuple[str, ...] = ()
    patch_sizes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def dictated_by(self) -> str:
        """What determines spacing, normalisation and patch size."""
        return f"source {self.card.name}" if self.card else self.label


def design_of(profile: str | None, source: str | None, follow: Collection[str]) -> Design:
    if unknown := sorted(set(follow) - set(FOLLOW)):
        raise PlansError(f"a source can't set {', '.join(unknown)}; there are: {', '.join(FOLLOW)}")
    if source is None:
        if profile is None:
            raise PlansError("give a profile, a source, or both")
        if follow:
            raise PlansError(f"{', '.join(follow)} can only be taken from a source, not from profile {profile}")
        shape = get_profile(profile)
        return Design(f"profile {profile}", plans_name_for(profile=profile), _architectures(shape), shape.memory)
    card = _registered(source)
    wanted = {"spacing": card.spacing, "normalization": card.normalization_schemes, "patch_size": card.patch_size}
    if missing := [f for f in follow if not wanted[f]]:
        raise PlansError(f"source {card.name} doesn't say its {', '.join(missing)}; leave it to nnU-Net")
    if "spacing" in follow and len(card.spacing) != 3:
        raise PlansError(f"source {card.name} is 2D; its spacing can't be followed, leave it to nnU-Net")
    if profile is None:
        label, own = f"source {card.name}", from_card(card.architecture)
        architectures: Mapping[int, Architecture] = {n: with_dimensions(own, n) for n in (2, 3)}
        memory = RESENC_M if own["network_class_name"].endswith(_RESIDUAL) else PLAIN_8GB
    else:
        label, shape = f"profile {profile}", get_profile(profile)
        architectures, memory = _architectures(shape), shape.memory
    return Design(
        label,
        plans_name_for(profile=profile, source=card.name),
        architectures,
        memory,
        card,
        card.spacing if "spacing" in follow else (),
        card.normalization_schemes if "normalization" in follow else (),
        {len(card.patch_size): card.patch_size} if "patch_size" in follow else {},
    )


def _registered(source: str) -> SourceCard:
    """Return the card of a source; trainings look it up in the registry by the name in the plans."""
    found = load_source(source)
    if not registered_name(found.folder):
        raise PlansError(
            f"{found.folder} is outside the registry, where trainings look for the source; add it first with "
            f"`nnunet_transfer sources add {found.folder}`"
        )
    return found.card


def _architectures(profile: Profile) -> dict[int, Architecture]:
    return {n: profile.architecture(n) for n in (2, 3)}
