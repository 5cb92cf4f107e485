"""Plan networks, load sources into them, and share trained models."""

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
    """Write nnU-Net plans with the architecture of a profile or a source.

    The data set needs nnU-Net's fingerprint (`nnUNetv2_extract_fingerprint`). Preprocess and train with these plans as
    usual (`-p PLANS`).

    Parameters
    ----------
    dataset
        Folder name or id of the data set.
    profile
        Name of an architecture: `resnet18`, `resnet50`, `resenc_m`, ...
    source
        Name of a source in the registry, or its folder there. Without a profile, the plans use the source's architecture.
    settings
        Configurations, patch and batch size, GPU memory, spacing and more.
    overwrite
        Replace different plans with this name.

    Returns
    -------
    Path
        The plans file.

    Raises
    ------
    TransferError
        If the fingerprint is missing, a setting doesn't fit the network, or different plans with this name exist.

    Examples
    --------
    >>> import nnunet_transfer as nt
    >>> dataset = getfixture("fingerprinted")  # a data set with nnU-Net's fingerprint
    >>> settings = nt.PlanSettings(configurations=("2d",), patch_size=(32, 32), batch_size=2)
    >>> nt.plan(dataset, profile="demo", settings=settings).name
    'nnUNetPlans_demo.json'
    """
    from nnunet_transfer.adaptation import TransferSettings
    from nnunet_transfer.plans.transfer_plans import PlanSettings, write_transfer_plans

    options = vars(settings or PlanSettings())
    if options["rules"]:
        # a training would refuse unknown ones, but only after preprocessing
        options = {**options, "rules": TransferSettings.from_dict(options["rules"]).to_dict()}
    return write_transfer_plans(dataset, profile=profile, source=source, overwrite=overwrite, **options)


def transfer_weights(
    network: nn.Module,
    source: Source | str | PathLike[str],
    *,
    settings: TransferSettings | None = None,
    channel_names: Sequence[str] = (),
    encoder_only: bool = False,
) -> TransferReport:
    """Load the weights of a source into a network from your own code, in place.

    The trainers do the same before the first epoch.

    Parameters
    ----------
    network
        nnU-Net's `PlainConvUNet` or `ResidualEncoderUNet`, or one of `nnunet_transfer.networks`, on any device.
    source
        The source, its name in the registry, or its folder.
    settings
        Rules for channels, kernels, depth and widths, and the smallest share of the encoder that must load.
    channel_names
        Names of the network's input channels, to match them with the source's channels.
    encoder_only
        Don't load the decoder.

    Returns
    -------
    TransferReport
        What happened to every tensor. `print(report.table())` shows a summary, `report.write(path)` saves it as JSON.

    Raises
    ------
    TransferError
        If too little of the encoder loads; the network is then unchanged.

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
    """Export a trained model so that nnU-Net predicts with it, without this package and with the same result.

    Parameters
    ----------
    model
        Folder `TRAINER__PLANS__CONFIGURATION`, or an archive of it from `nnUNetv2_export_model_to_zip`.
    output
        An archive for `nnUNetv2_install_pretrained_model_from_zip` if the name ends in `.zip`, otherwise a folder.
    folds
        Folds to export; default: all that have the checkpoint.
    checkpoint
        File name of the checkpoint in each fold's folder.
    overwrite
        Replace `output` if it exists.

    Returns
    -------
    StockModel
        Where the model was written, its folds, and the sources it was fine-tuned from, with their licences.

    Raises
    ------
    TransferError
        If the model can't be read, was trained by another package's trainer, or has a network or plans that nnU-Net
        doesn't support.

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
