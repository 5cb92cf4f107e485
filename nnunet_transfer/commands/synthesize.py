"""Make T1-like images from label maps, with or without lesions, as a data set to pre-train on.

Example:
  nnunet_transfer synthesize LABEL_MAPS -d 31 --n 200 --spacing 1 1 1
  nnunet_transfer synthesize LABEL_MAPS -d 32 --n 200 \\
      --lesions stroke=MASKS --leave-out-donors TARGET_FOLDER
  nnunet_transfer synthesize Dataset012_Anatomy -d 33 --n 100 --images real \\
      --lesions stroke=MASKS ms=OTHER_MASKS

LABEL_MAPS is a folder in FreeSurfer's numbering, or any nnU-Net data set. The same seed gives the same files, with any
number of processes. Run the same command again after an interrupt: finished cases are kept. Synthetic images need
`pip install 'nnunet_transfer[synthesize]'`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from nnunet_transfer.commands.actions import given, given_path
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `synthesize`."""
    parser.add_argument(
        "labels",
        type=given,
        metavar="LABEL_MAPS",
        help="folder of label maps, or an nnU-Net data set (folder, name, id)",
    )
    parser.add_argument("-d", "--id", type=int, required=True, metavar="ID", help="id of the new data set")
    parser.add_argument(
        "--name",
        default="Synthetic",
        metavar="NAME",
        help="name of the new data set, after DatasetXXX_ (default: %(default)s)",
    )
    parser.add_argument("--n", type=int, default=200, metavar="N", help="number of cases (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="K", help="seed of all random numbers (default: %(default)s)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=max(1, (os.cpu_count() or 1) // 2),
        metavar="N",
        help="cases at a time (default: %(default)s)",
    )
    _add_image_arguments(parser.add_argument_group("images"))
    _add_lesion_arguments(parser.add_argument_group("lesions"))


def _add_image_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--images",
        default="synthetic",
        metavar="KIND",
        help="synthetic, or real: the data set's own, with pasted lesions (default: %(default)s)",
    )
    group.add_argument(
        "--profile", default="t1", metavar="NAME", help="intensities: t1 or any-contrast (default: %(default)s)"
    )
    group.add_argument(
        "--head",
        default="both",
        metavar="PART",
        help="what synthetic images show: whole (head), brain, or both: each in half of the cases (default: %(default)s)",
    )
    group.add_argument(
        "--spacing", type=float, nargs=3, default=[], metavar="MM", help="voxel size of synthetic images, x y z"
    )
    group.add_argument("--upright", action="store_true", help="turn synthetic images to MNI's axes, as for 2D networks")
    group.add_argument("--channel", default="", metavar="NAME", help="the channel of real images that holds T1")
    group.add_argument(
        "--structures", type=given_path, metavar="FILE", help='JSON {"output label": [values it merges]}'
    )
    group.add_argument(
        "--tissues", type=given_path, metavar="FILE", help='JSON {"label": "tissue"} where names don\'t tell'
    )


def _add_lesion_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--lesions", nargs="+", default=[], metavar="[KIND=]FOLDER", help="masks to paste; KIND: stroke, ms or any"
    )
    group.add_argument(
        "--leave-out-donors",
        nargs="+",
        default=[],
        metavar="DONORS",
        help="donors not to draw from: names, tables FILE[:COLUMN] (.csv, .tsv; column donor), folders of data sets",
    )
    group.add_argument(
        "--mask-space",
        default="mni",
        metavar="SPACE",
        help="space of the masks: mni, or image, the images' own (default: %(default)s)",
    )
    group.add_argument(
        "--mass-effect",
        type=float,
        default=0.0,
        metavar="MM",
        help="let lesions swell by up to MM (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Make the data set and print its folder."""
    from nnunet_transfer.api import synthesize
    from nnunet_transfer.synthetic.settings import Settings

    if args.processes < 1:
        raise SettingsError(f"--processes is {args.processes}; give 1 or more")
    settings = Settings(
        labels=args.labels,
        dataset_id=args.id,
        name=args.name,
        count=args.n,
        images=args.images,
        profile=args.profile,
        lesions=tuple(args.lesions),
        leave_out=tuple(args.leave_out_donors),
        mask_space=args.mask_space,
        mass_effect=args.mass_effect,
        head=args.head,
        spacing=tuple(args.spacing),
        upright=args.upright,
        channel=args.channel,
        structures=_structures(args.structures),
        tissues=_tissues(args.tissues),
        folds=args.folds,
        seed=args.seed,
    )
    print(synthesize(settings, processes=args.processes))
    return 0


def _structures(path: Path | None) -> dict[str, tuple[int, ...]]:
    content: Any = read_json(path) if path else {}
    values: list[Any] = list(content.values()) if isinstance(content, dict) else [None]
    if not all(isinstance(v, list) and v and all(type(i) is int and i > 0 for i in v) for v in values):
        raise DataError(f'{path} must be JSON such as {{"thalamus": [10, 49]}}: names, each with its values')
    if twice := [i for v in values for i in v if sum(w.count(i) for w in values) > 1]:
        raise DataError(f"{path} gives the value {twice[0]} twice")
    return {name: tuple(v) for name, v in content.items()}


def _tissues(path: Path | None) -> dict[str, str]:
    content: Any = read_json(path) if path else {}
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise DataError(f'{path} must be JSON such as {{"R1": "cortex"}}: labels, each with its tissue')
    return content
