"""Write nnU-Net plans whose architecture is a profile's or a source's.

Spacing, normalisation, patch and batch size follow nnU-Net's rules. Afterwards preprocess and train as usual.

Example:
  nnunet_transfer plan -d 4 --profile resnet18 -c 2d
  nnUNetv2_preprocess -d 4 -plans_name nnUNetPlans_resnet18 -c 2d
  nnUNetv2_train 4 2d 0 -p nnUNetPlans_resnet18 -tr nnUNetTrainerT1Segmentation
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from nnunet_transfer.plans import FOLLOW, PROFILES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `plan`."""
    parser.add_argument("-d", "--dataset", required=True, metavar="ID", help="id or folder name of the data set")
    profiles = "; ".join(f"{name} ({profile.description})" for name, profile in PROFILES.items())
    parser.add_argument("--profile", metavar="NAME", help=f"architecture by name: {profiles}")
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="source in the registry, or its folder there, for nnUNetTrainerTransfer; its architecture, or --profile's if given",
    )
    parser.add_argument("-c", "--configurations", nargs="+", metavar="CONFIG", help="2d, 3d_fullres ... (default: all)")
    parser.add_argument("--patch-size", nargs="+", type=int, metavar="N", help="voxels per axis")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per batch")
    parser.add_argument(
        "--gpu-memory",
        type=float,
        metavar="GB",
        help="GPU memory that patch and batch size are fitted to (default: the profile's; 8 with --source)",
    )
    parser.add_argument(
        "--spacing",
        nargs=3,
        type=float,
        metavar="MM",
        help="target spacing along the data set's axes; 2d takes those of its two axes",
    )
    parser.add_argument(
        "--name",
        metavar="PLANS",
        help="name of the plans (default: nnUNetPlans_PROFILE, nnUNetPlans_from_SOURCE, or both joined)",
    )
    parser.add_argument(
        "--base-plans",
        default="nnUNetPlans",
        metavar="PLANS",
        help="plans whose preprocessed data are shared (default: %(default)s)",
    )
    parser.add_argument(
        "--follow-source",
        nargs="+",
        default=[],
        choices=FOLLOW,
        metavar="SETTING",
        help=f"settings to take from the source, too: {', '.join(FOLLOW)}",
    )
    parser.add_argument(
        "--rules",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="how weights are made to fit: input_channels=mean|sum|repeat, new_channels=mean|zero, inflation=mean|centre, "
        "kernel=sum|mean, widths=refuse|leading, minimum_encoder=0.9",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace plans with this name")


def run(args: argparse.Namespace) -> int:
    """Write the plans and print their path."""
    from nnunet_transfer.api import plan
    from nnunet_transfer.plans.transfer_plans import PlanSettings

    settings = PlanSettings(
        configurations=args.configurations,
        patch_size=args.patch_size,
        batch_size=args.batch_size,
        gpu_memory=args.gpu_memory,
        target_spacing=args.spacing,
        name=args.name,
        base_plans=args.base_plans,
        follow_source=tuple(args.follow_source),
        rules=_rules(args.rules),
    )
    path = plan(args.dataset, profile=args.profile, source=args.source, settings=settings, overwrite=args.overwrite)
    print(path)
    return 0


def _rules(words: Sequence[str]) -> dict[str, Any] | None:
    if not words:
        return None
    from nnunet_transfer.adaptation import TransferSettings

    return TransferSettings.from_words(words).to_dict()
