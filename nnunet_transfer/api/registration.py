"""Entries of one's own in the tables that names are looked up in, for this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_transfer.checkpoints.converted import Format
    from nnunet_transfer.conversion.description import DatasetDescription
    from nnunet_transfer.evaluation.protocols import LesionProtocol
    from nnunet_transfer.recipes import Recipe


def register_arm(name: str, *, source: str) -> None:
    """Add an arm for this process: a trainer's name and the registry name of the source it starts from.

    `nnUNetv2_train` is a process of its own: for that, an installed package adds the arm by an entry point
    (`docs/extending.md`).

    Raises
    ------
    TransferError
        If the name can't be a trainer's or is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_arm("nnUNetTrainerCTSegmentation", source="ct_segmentation")
    """
    from nnunet_transfer.naming import ARMS

    ARMS.register(name, source)


def register_recipe(recipe: Recipe) -> None:
    """Add a recipe for this process; its name becomes a suffix of every arm.

    Raises
    ------
    TransferError
        If the name can't be a suffix or is taken, or the phases' shares don't add up to 1.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_recipe(nt.Recipe("plain", "nnU-Net's decay only", (nt.Phase("all", 1.0),)))
    """
    from nnunet_transfer.recipes import RECIPES

    RECIPES.register(recipe.name, recipe)


def register_protocol(protocol: LesionProtocol) -> None:
    """Add a lesion protocol for this process.

    Raises
    ------
    TransferError
        If the name is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_protocol(nt.LesionProtocol("lab26", "our laboratory's", 26, min_volume_mm3=5.0))
    """
    from nnunet_transfer.evaluation.protocols import PRESETS

    PRESETS.register(protocol.name, protocol)


def register_format(checkpoint_format: Format) -> None:
    """Add a checkpoint format for this process; it is asked before the package's own.

    Raises
    ------
    TransferError
        If the name is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> def refuse(found):
    ...     raise nt.TransferError("our first layout has no skip connections; use the second")
    >>> nt.register_format(nt.Format("our first layout", lambda found: found.top.get("lab_version") == 1, refuse))
    """
    from nnunet_transfer.checkpoints.formats import FORMATS

    FORMATS.register(checkpoint_format.name, checkpoint_format)


def register_dataset(description: DatasetDescription) -> None:
    """Add a data set for this process, to be converted by its name.

    Raises
    ------
    TransferError
        If the name is taken.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_dataset(
    ...     nt.DatasetDescription(
    ...         name="lab",
    ...         title="our patients",
    ...         folder_name="Lab",
    ...         licence="internal",
    ...         citation="unpublished",
    ...         request="ask the study office",
    ...         label_sets={"lesion": nt.LabelRule({"lesion": 1})},
    ...         case="{subject}",
    ...         layouts=(nt.Layout({"T1": "{subject:P[0-9]+}/t1.nii.gz"}, {"lesion": "{subject}/lesions.nii.gz"}),),
    ...     )
    ... )
    """
    from nnunet_transfer.conversion.catalogue import ADDED, all_descriptions
    from nnunet_transfer.errors import SettingsError

    if all_descriptions().get(description.name, description) != description:
        raise SettingsError(f"datasets: there is already an entry {description.name}; choose another name")
    ADDED.register(description.name, description)
