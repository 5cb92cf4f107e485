"""Put a converted data set's folds where nnU-Net reads them.

Preprocessing comes first: nnU-Net makes the folder. The folds are checked against the preprocessed cases.

Example:
  nnUNetv2_plan_and_preprocess -d 4
  nnunet_transfer install-splits -d 4
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `install-splits`."""
    parser.add_argument("-d", "--dataset", required=True, metavar="ID", help="id or folder name of the data set")
    parser.add_argument("--overwrite", action="store_true", help="replace other folds that are there already")


def run(args: argparse.Namespace) -> int:
    """Install the folds and print their path."""
    from nnunet_transfer.api import install_splits

    print(install_splits(args.dataset, overwrite=args.overwrite))
    return 0
