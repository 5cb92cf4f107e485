"""Export a trained model for people who have only nnU-Net: its own commands predict with it, with the same result.

The network must be one of nnU-Net's. Weights, settings, transfer reports and the postprocessing that nnU-Net chose on these
folds go with it; the optimiser's state, logs, and predictions and scores of the validation stay behind.

Example:
  nnunet_transfer export-stock -o y.zip \\
      $nnUNet_results/Dataset100_X/nnUNetTrainerTransfer__nnUNetPlans_from_y__2d
  nnUNetv2_install_pretrained_model_from_zip y.zip  # where only nnU-Net is
"""

from __future__ import annotations

import argparse

from nnunet_transfer.commands.actions import given_path
from nnunet_transfer.errors import one_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export-stock`."""
    parser.add_argument(
        "model", type=given_path, metavar="MODEL", help="a model's folder in nnUNet_results, or nnU-Net's export of it"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=given_path, metavar="PATH", help="an archive, NAME.zip, or a folder"
    )
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="0, 1 ... or all (default: all there are)")
    parser.add_argument(
        "--checkpoint",
        default="checkpoint_final.pth",
        metavar="NAME",
        help="which file of each fold (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def run(args: argparse.Namespace) -> int:
    """Export the model; print the path, and what its licence may depend on."""
    from nnunet_transfer.api import export_stock

    done = export_stock(args.model, args.output, folds=args.folds, checkpoint=args.checkpoint, overwrite=args.overwrite)
    print(done.path)
    for path in done.postprocessing:
        print(f"postprocessing: nnUNetv2_apply_postprocessing -i MASKS -o OUTPUT -pp_pkl_file MODEL/{path}")
    for name, licence in done.sources:
        print(
            f"fine-tuned from {one_line(name)}, licence {one_line(licence)}: check whether it lets you share this model"
        )
    return 0
