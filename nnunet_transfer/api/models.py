"""Networks: plan them, load a source into one, share a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from nnunet_transfer.adaptation import TransferReport, TransferSettings
    from nnunet_transfer.plans.transfer_plans import PlanSettings
    from nnunet_transfer.sharing import StockModel
    from nnunet_transfer.sources import Source


def plan(
    dataset: str | int,
    *,
    profile: str | None = None,
    source: str | None = None,
    settings: PlanSettings | None = None,
    overwrite: bool = False,
) -> Path:
    """Write nnU-Net plans whose architecture is a profile's or a source's.

    The data set must have nnU-Net's fingerprint (`nnUNetv2_extract_fingerprint`). Preprocess and train as usual with
    the plans' name.

    Parameters
    ----------
    dataset
        Folder name or id of the data set.
    profile
        Architecture by name: `resnet18`, `resnet50`, `resenc_m`, ...
    source
        Source in the registry, or its folder; its architecture is taken unless a profile is given.
    settings
        Configurations, patch and batch size, GPU memory, spacing and more.
    overwrite
        Replace plans of this name.

    Returns
    -------
    Path
        The plans file.

    Raises
    ------
    TransferError
        If the fingerprint is missing or something doesn't fit the network.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> dataset = getfixture("fingerprinted")  # a data set with nnU-Net's fingerprint
    >>> settings = nt.PlanSettings(configurations=("2d",), patch_size=(32, 32), batch_size=2)
    >>> nt.plan(dataset, profile="demo", settings=settings).name
    'nnUNetPlans_demo.json'
    """
    from nnunet_transfer.plans.transfer_plans import PlanSettings, write_transfer_plans

    return write_transfer_plans(
        dataset, profile=profile, source=source, overwrite=overwrite, **vars(settings or PlanSettings())
    )


def transfer_weights(
    network: nn.Module,
    source: Source | str | PathLike[str],
    *,
    settings: TransferSettings | None = None,
    channel_names: Sequence[str] = (),
    encoder_only: bool = False,
) -> TransferReport:
    """Load a source into a network of your own code, in place; the arms do the same before the first epoch.

    Parameters
    ----------
    network
        nnU-Net's `PlainConvUNet` or `ResidualEncoderUNet`, or one of `nnunet_transfer.networks`, on any device.
    source
        The source, its name in the registry, or its folder.
    settings
        Rules for channels, kernels, depth and widths, and the smallest share of the encoder that must fit.
    channel_names
        The network's input channels, to match them with the source's by name.
    encoder_only
        Leave the decoder as it is.

    Returns
    -------
    TransferReport
        What happened to every tensor; `str(report.table())` is readable, `report.write(path)` saves it.

    Raises
    ------
    TransferError
        If too little fits; the network is then unchanged.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> network = getfixture("unet")  # a ResidualEncoderUNet with 5 output channels
    >>> report = nt.transfer_weights(network, getfixture("registered_source"), channel_names=["T1"])
    >>> report.coverage["encoder"]
    1.0
    """
    from nnunet_transfer.adaptation import Target, TransferSettings, transfer_weights
    from nnunet_transfer.sources import Source, load_source

    settings = settings or TransferSettings()
    return transfer_weights(
        network,
        source if isinstance(source, Source) else load_source(source),
        scope="encoder" if encoder_only else "encoder+decoder",
        minimum_encoder=settings.minimum_encoder,
        rules=settings.rules,
        target=Target(channel_names=tuple(channel_names)),
    )


def export_stock(
    model: str | PathLike[str],
    output: str | PathLike[str],
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    overwrite: bool = False,
) -> StockModel:
    """Write a trained model so that people who have only nnU-Net predict with it, with the same result.

    Parameters
    ----------
    model
        Folder `TRAINER__PLANS__CONFIGURATION`, or an archive that `nnUNetv2_export_model_to_zip` made of it.
    output
        An archive for `nnUNetv2_install_pretrained_model_from_zip` if the name ends in `.zip`, else a folder.
    folds
        Folds to keep; default: all that have the checkpoint.
    checkpoint
        File name in the folds' folders.
    overwrite
        Replace what is there.

    Returns
    -------
    StockModel
        `path`, `folds`, and `sources`: name and licence of what the model was fine-tuned from.

    Raises
    ------
    TransferError
        If the model can't be read, or its network or plans need more than nnU-Net.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> model, out = getfixture("trained_model")  # .../nnUNetTrainerTransfer__nnUNetPlans_demo__2d, with two folds
    >>> exported = nt.export_stock(model, out / "model.zip", folds=["0"])
    >>> exported.path.name, exported.folds
    ('model.zip', ('0',))
    """
    from nnunet_transfer.sharing import export_stock

    return export_stock(Path(model), Path(output), folds=folds, checkpoint=checkpoint, overwrite=overwrite)
