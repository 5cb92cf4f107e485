"""Register your own arms, recipes, protocols, formats and data sets for the current process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_transfer.checkpoints.converted import Format
    from nnunet_transfer.conversion.description import DatasetDescription
    from nnunet_transfer.evaluation.protocols import LesionProtocol
    from nnunet_transfer.recipes import Recipe


def register_arm(name: str, *, source: str) -> None:
    """Register an arm for the current process.

    `nnUNetv2_train` runs in its own process: to train the arm there, declare it as an entry point of an installed
    package (`docs/extending.md`).

    Parameters
    ----------
    name
        Name of the trainer.
    source
        Registry name of the source that the trainer starts from.

    Raises
    ------
    TransferError
        If the name is taken or isn't a valid trainer name.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_arm("nnUNetTrainerCTSegmentation", source="ct_segmentation")
    """
    from nnunet_transfer.naming import ARMS

    ARMS.register(name, source)


def register_recipe(recipe: Recipe) -> None:
    """Register a fine-tuning recipe for the current process.

    The name of the recipe can then be used as a suffix of every arm.

    Parameters
    ----------
    recipe
        The recipe.

    Raises
    ------
    TransferError
        If the name is taken or isn't a valid suffix, or the shares of the phases don't add up to 1.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> nt.register_recipe(nt.Recipe("plain", "nnU-Net's decay only", (nt.Phase("all", 1.0),)))
    """
    from nnunet_transfer.recipes import RECIPES

    RECIPES.register(recipe.name, recipe)


def register_protocol(protocol: LesionProtocol) -> None:
    """Register a lesion protocol for the current process.

    Parameters
    ----------
    protocol
        The protocol.

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
    """Register a checkpoint format for the current process.

    Registered formats take precedence over the built-in ones.

    Parameters
    ----------
    checkpoint_format
        The format.

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
    """Register a data set for the current process, so that `convert` finds it by name.

    Parameters
    ----------
    description
        The data set.

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
