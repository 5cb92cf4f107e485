"""List the planners, or let nnU-Net's own commands find them.

Example:
  nnunet_transfer planners --install
  nnUNetv2_plan_and_preprocess -d 4 -pl nnUNetPlannerTransfer_resnet18 -c 2d

--install puts one small file into nnU-Net's folder, the only place where it looks for planners; --remove deletes it.
Run --install again after reinstalling nnU-Net. `nnunet_transfer plan` does the same without it.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `planners`."""
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--install", action="store_true", help="put the file into nnU-Net's folder")
    change.add_argument("--remove", action="store_true", help="take the file away")


def run(args: argparse.Namespace) -> int:
    """Do what was asked, or print the planners' names."""
    from nnunet_transfer.planners import PREFIX, install, installed_file, planner_names, remove

    if args.install:
        print(install())
        return 0
    if args.remove:
        print(remove() or "there is no such file in nnU-Net's folder")
        return 0
    names = {**planner_names(), f"{PREFIX}from_SOURCE": "the architecture of a source in the registry"}
    width = max(map(len, names))
    for name, text in names.items():
        print(f"{name:<{width}}  {text}")
    where = installed_file()
    print(f"\nnnU-Net finds them through {where}" if where else "\nnnU-Net doesn't find them: use --install")
    return 0
