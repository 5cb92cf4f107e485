"""Public checkpoints that can be fetched by name. Nothing is downloaded without a request.

Addresses, licences and training data are as stated by the publishers. Checksums are verified if known: PyTorch and timm
put the first digits of the SHA-256 into file names, Hugging Face sends it with the file, and some users of a checkpoint
have published it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.checkpoints.downloads import downloaded, stated_sha256
from nnunet_transfer.checkpoints.papers import (
    ANATOMIX_PAPER,
    GENESIS_PAPER,
    RESNET_PAPER,
    SUPREM_PAPER,
    SYNTHSTROKE_PAPER,
)
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.registration import did_you_mean


@dataclass(frozen=True)
class Entry:
    """A public checkpoint.

    Attributes
    ----------
    address : address for `downloads`
    task, domain : task and domain of the source
    licence, citation, trained_on : as stated by the publisher
    sha256 : checksum, if neither the file name nor the server states it
    """

    address: str
    task: str
    domain: str
    licence: str
    citation: str
    trained_on: tuple[str, ...]
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types, with the checksum in the file name."""
        return {**asdict(self), "sha256": self.sha256 or stated_sha256(self.address)}


_TORCH = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_META = "https://dl.fbaipublicfiles.com/"
_IMAGENET = "ImageNet's terms of access (non-commercial research)"
_UNKNOWN = "see the repository"
_OPENMIND_PAPER = "Wald et al., An OpenMind for 3D medical vision self-supervised learning, arXiv 2412.17041"
_DINO_PAPER = "Caron et al., Emerging properties in self-supervised vision transformers, ICCV 2021, arXiv 2104.14294"
_SWAV_PAPER = "Caron et al., Contrasting cluster assignments, NeurIPS 2020, arXiv 2006.09882"
_MOCO_PAPER = "Chen et al., Improved baselines with momentum contrastive learning, arXiv 2003.04297"
_MEDICALNET_PAPER = "Chen et al., Med3D, arXiv 1904.00625"
_GENESIS_LICENCE = "ASU's for Models Genesis (non-commercial research)"
#: the same in two projects that used the file, of which one is github.com/KawhiQaQ/ISLES26-StrokeFusion
_OPENMIND_SHA256 = {"MAE": "7a847af785635335c00e711d16ff4d225d86ecd5992b14c059df2b520e3ee933"}
#: checksum noted by a project that uses the file
_SYNTHSTROKE_SHA256 = {"synth-plus": "d53d6577c064c86dc466d0144362875c90a1adedc71375cb09711e271432b552"}
_VOCO_PAPER = "Wu et al., Large-scale 3D medical image pre-training with geometric context priors, arXiv 2410.09890"


def _torchvision(file: str, task: str, trained_on: tuple[str, ...]) -> Entry:
    licence = f"BSD-3-Clause (torchvision); {_IMAGENET}"
    return Entry(_TORCH + file, task, "natural", licence, RESNET_PAPER, trained_on)


def _timm(file: str) -> Entry:
    return Entry(
        _TIMM + file, "classification", "natural", f"Apache-2.0 (timm); {_IMAGENET}", RESNET_PAPER, ("ImageNet-1k",)
    )


def _self_supervised(file: str, licence: str, citation: str) -> Entry:
    return Entry(_META + file, "self_supervised", "natural", f"{licence}; {_IMAGENET}", citation, ("ImageNet-1k",))


def _openmind(method: str) -> Entry:
    address = f"hf://AnonRes/ResEncL-OpenMind-{method}/checkpoint_final.pth"
    known = _OPENMIND_SHA256.get(method, "")
    return Entry(address, "self_supervised", "brain_mri", _UNKNOWN, _OPENMIND_PAPER, ("OpenMind",), known)


def _medicalnet(depth: int) -> Entry:
    address = f"hf://TencentMedicalNet/MedicalNet-Resnet{depth}/resnet_{depth}_23dataset.pth"
    return Entry(address, "segmentation", "medical", "MIT", _MEDICALNET_PAPER, ("the 23 data sets of Med3D",))


def _synthstroke(variant: str) -> Entry:
    address = f"hf://liamchalcroft/synthstroke-{variant}/model.safetensors"
    trained_on = ("ATLAS",) if variant in ("baseline", "qatlas") else ("ATLAS", "OASIS-3")
    known = _SYNTHSTROKE_SHA256.get(variant, "")
    return Entry(address, "segmentation", "t1", "MIT", SYNTHSTROKE_PAPER, trained_on, known)


def _anatomix(variant: str) -> Entry:
    address = f"hf://neeldey/anatomix/{variant}.pth"
    trained_on = ("synthetic volumes of TotalSegmentator's shapes",)
    return Entry(address, "self_supervised", "synthetic", "MIT", ANATOMIX_PAPER, trained_on)


CATALOGUE: dict[str, Entry] = {
    "imagenet_resnet18d": _timm("resnet18d_ra2-48a79e06.pth"),
    "imagenet_resnet34d": _timm("resnet34d_ra2-f8dcfcaf.pth"),
    "imagenet_resnet50d": _timm("resnet50d_ra2-464e36ba.pth"),
    "imagenet_resnet18": _torchvision("resnet18-f37072fd.pth", "classification", ("ImageNet-1k",)),
    "imagenet_resnet34": _torchvision("resnet34-b627a593.pth", "classification", ("ImageNet-1k",)),
    "imagenet_resnet50": _torchvision("resnet50-0676ba61.pth", "classification", ("ImageNet-1k",)),
    "coco_fcn_resnet50": _torchvision("fcn_resnet50_coco-1167a1af.pth", "segmentation", ("ImageNet-1k", "COCO")),
    "coco_deeplabv3_resnet50": _torchvision(
        "deeplabv3_resnet50_coco-cd0a2569.pth", "segmentation", ("ImageNet-1k", "COCO")
    ),
    "dino_resnet50": _self_supervised(
        "dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth", "Apache-2.0", _DINO_PAPER
    ),
    "swav_resnet50": _self_supervised("deepcluster/swav_800ep_pretrain.pth.tar", "CC BY-NC 4.0", _SWAV_PAPER),
    "moco_v2_resnet50": _self_supervised(
        "moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar", "CC BY-NC 4.0", _MOCO_PAPER
    ),
    **{f"openmind_{method.lower()}": _openmind(method) for method in ("MAE", "VF", "MG", "SimCLR", "VoCo")},
    "nnfoundation_cnn": Entry(
        "hf://MIC-DKFZ/nnFoundationCNN/checkpoint_final.pth",
        "self_supervised",
        "medical",
        "CC BY-SA 4.0",
        "MIC-DKFZ, nnFoundationCNN, Hugging Face",
        (),
    ),
    "ssl3d_mae": Entry(
        "hf://MIC-DKFZ/SSL3D-checkpoints/ResEnc-L/DKFZ_MAE/DKFZ_MAE_ResEncL.pth",
        "self_supervised",
        "brain_mri",
        _UNKNOWN,
        "SSL3D challenge, MICCAI 2025, Hugging Face MIC-DKFZ/SSL3D-checkpoints",
        ("OpenMind",),
    ),
    **{f"medicalnet_resnet{depth}": _medicalnet(depth) for depth in (18, 34, 50)},
    **{
        f"synthstroke_{variant.replace('-', '_')}": _synthstroke(variant)
        for variant in ("baseline", "synth", "synth-pseudo", "synth-plus", "qatlas", "qsynth")
    },
    **{variant.replace("-", "_"): _anatomix(variant) for variant in ("anatomix", "anatomix-dev")},
    "vocomni_nnunet": Entry(
        "hf://Luffy503/VoCo/VoComni_nnunet.pt", "segmentation", "ct", _UNKNOWN, _VOCO_PAPER, ("VoComni",)
    ),
    "genesis_chest_ct": Entry(
        "hf://MrGiovanni/ModelsGenesis/Genesis_Chest_CT.pt",
        "self_supervised",
        "ct",
        _GENESIS_LICENCE,
        GENESIS_PAPER,
        ("LUNA16",),
    ),
    "genesis_nnunet": Entry(
        "hf://MrGiovanni/ModelsGenesis/genesis_nnunet_luna16_006.model",
        "self_supervised",
        "ct",
        _GENESIS_LICENCE,
        GENESIS_PAPER,
        ("LUNA16",),
    ),
    "suprem_unet": Entry(
        "hf://MrGiovanni/SuPreM/supervised_suprem_unet_2100.pth",
        "segmentation",
        "ct",
        "CC BY-NC-ND 4.0",
        SUPREM_PAPER,
        ("AbdomenAtlas 1.1", "LUNA16"),
    ),
}


def fetch_source(name: str, *, save_as: str | None = None, overwrite: bool = False) -> Path:
    """Download a checkpoint from the catalogue and add it to the registry.

    Returns
    -------
    Path
        The source's folder.

    Raises
    ------
    CheckpointError
        If the name is unknown, the download fails, or the checksum is wrong.
    """
    from nnunet_transfer.checkpoints.add import Provenance, add_source, check_name_free

    if name not in CATALOGUE:
        raise CheckpointError(f"the catalogue has no {name}; {did_you_mean(name, CATALOGUE)}")
    entry = CATALOGUE[name]
    check_name_free(save_as or name, overwrite)
    with downloaded(entry.address, entry.sha256, "the catalogue states") as file:
        # the repository's model card, if any, is more specific
        licence = "" if entry.licence == _UNKNOWN else entry.licence
        provenance = Provenance(licence, entry.citation, entry.trained_on, address=entry.address)
        return add_source(
            file, save_as or name, task=entry.task, domain=entry.domain, provenance=provenance, overwrite=overwrite
        )
