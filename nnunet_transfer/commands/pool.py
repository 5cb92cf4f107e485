"""Pool data sets with different labels into one, to pre-train on all of them with one head per set.

Example:
  nnunet_transfer pool -d 11 12 13 --id 20 --name PooledAnatomy

The sets don't change. In the pool, cases get their set's name as prefix, and labels get new values; subjects and folds
are kept. Run the same command again after an interrupt: finished cases are kept. Afterwards:

  nnUNetv2_extract_fingerprint -d 20
  nnunet_transfer plan -d 20 --profile resnet18
  nnUNetv2_preprocess -d 20 -plans_name nnUNetPlans_resnet18 -c 3d_fullres
  nnunet_transfer install-splits -d 20
  nnUNetv2_train 20 3d_fullres 0 -p nnUNetPlans_resnet18 \\
      -tr nnUNetPretrainerSegmentation
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `pool`."""
    parser.add_argument(
        "-d", "--datasets", nargs="+", required=True, metavar="ID", help="ids or folder names of the sets to pool"
    )
    parser.add_argument("--id", type=int, required=True, metavar="ID", help="id of the new data set")
    parser.add_argument("--name", required=True, metavar="NAME", help="name of the new data set, after DatasetXXX_")
    parser.add_argument(
        "--same-subjects",
        action="store_true",
        help="subjects of the same name in several sets are the same, and stay on one side of each fold",
    )
    parser.add_argument("--link", action="store_true", help="link to the images instead of copying them")


def run(args: argparse.Namespace) -> int:
    """Pool, and print each set's share and the new folder."""
    from nnunet_transfer.api import pool
    from nnunet_transfer.words import counted

    done = pool(args.datasets, args.id, args.name, same_subjects=args.same_subjects, link=args.link)
    for pooled in done.sets:
        print(
            f"{pooled.name}: {counted(len(pooled.cases), 'case')}, {counted(len(pooled.labels), 'label')}, from {pooled.dataset}"
        )
    print(done.folder)
    return 0
