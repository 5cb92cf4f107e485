"""Public checkpoints that can be fetched by name, and their download. Nothing is downloaded unless asked for.

Addresses, licences and training data are those that the publishers state. A checksum is given where the publisher
states one: PyTorch and timm put the first digits of the SHA-256 into their file names.
"""

from __future__ import annotations

import difflib
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.checkpoints.add import Provenance, add_source
from nnunet_transfer.checkpoints.resnet import RESNET_PAPER
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.files import sha256_of

HUGGING_FACE = "hf://"
TIMEOUT_SECONDS = 30
#: the largest file that is downloaded, in bytes
MAX_DOWNLOAD = 8 << 30
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.(pth|pt)$")


@dataclass(frozen=True)
class Entry:
    """A public checkpoint.

    Attributes
    ----------
    address : `https://...`, or `hf://<owner>/<repository>/<file>` on Hugging Face
    task, domain : of the source
    licence, citation, trained_on : as the publisher states
    """

    address: str
    task: str
    domain: str
    licence: str
    citation: str
    trained_on: tuple[str, ...]

    @property
    def sha256_prefix(self) -> str:
        """The first digits of the checksum, where the file name has them."""
        match = _HASH_IN_NAME.search(self.address)
        return match[1] if match else ""


_TORCH = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_IMAGENET = "ImageNet's terms of access (non-commercial research)"
_OPENMIND_PAPER = "Wald et al., An OpenMind for 3D medical vision self-supervised learning, arXiv 2412.17041"


def _torchvision(file: str, task: str, trained_on: tuple[str, ...]) -> Entry:
    licence = f"BSD-3-Clause (torchvision); {_IMAGENET}"
    return Entry(_TORCH + file, task, "natural", licence, RESNET_PAPER, trained_on)


def _timm(file: str) -> Entry:
    return Entry(
        _TIMM + file, "classification", "natural", f"Apache-2.0 (timm); {_IMAGENET}", RESNET_PAPER, ("ImageNet-1k",)
    )


def _openmind(method: str) -> Entry:
    address = f"{HUGGING_FACE}AnonRes/ResEncL-OpenMind-{method}/checkpoint_final.pth"
    return Entry(address, "self_supervised", "brain_mri", "see the repository", _OPENMIND_PAPER, ("OpenMind",))


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
    **{f"openmind_{method.lower()}": _openmind(method) for method in ("MAE", "VF", "MG", "SimCLR", "VoCo")},
    "nnfoundation_cnn": Entry(
        f"{HUGGING_FACE}MIC-DKFZ/nnFoundationCNN/checkpoint_final.pth",
        "self_supervised",
        "medical",
        "CC BY-SA 4.0",
        "MIC-DKFZ, nnFoundationCNN, Hugging Face",
        (),
    ),
}


def fetch_source(name: str, *, save_as: str | None = None, overwrite: bool = False) -> Path:
    """Download a checkpoint of the catalogue and add it to the registry.

    Returns
    -------
    Path
        The source's folder.

    Raises
    ------
    CheckpointError
        If the name is unknown, there is no network, or the file is not what the publisher states.
    """
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise CheckpointError(f"the catalogue has no {name}; {hint}there are: {', '.join(CATALOGUE)}")
    entry = CATALOGUE[name]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / entry.address.rsplit("/", 1)[-1]
        fetch = _from_hugging_face if entry.address.startswith(HUGGING_FACE) else _from_address
        _download(fetch, entry.address, file)
        found = sha256_of(file)
        if not found.startswith(entry.sha256_prefix):
            raise CheckpointError(
                f"{entry.address} has sha256 {found[:12]}, its publisher states {entry.sha256_prefix}; not added"
            )
        provenance = Provenance(entry.licence, entry.citation, entry.trained_on)
        return add_source(
            file, save_as or name, task=entry.task, domain=entry.domain, provenance=provenance, overwrite=overwrite
        )


def _download(fetch: Callable[[str, Path], None], address: str, file: Path) -> None:
    try:
        fetch(address, file)
    except urllib.error.HTTPError as error:
        raise CheckpointError(f"{address} answers {error.code} ({error.reason}); it may have moved") from None
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"{address} can't be reached ({reason}); where there is a network, download the file, and add it here with "
            f"`nnunet_transfer sources add`"
        ) from None


def _from_address(address: str, file: Path) -> None:
    # addresses are the table's own, all https
    with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as stream, open(file, "wb") as sink:
        if int(stream.headers.get("Content-Length") or 0) > MAX_DOWNLOAD:
            raise CheckpointError(f"{address} is larger than {MAX_DOWNLOAD >> 30} GiB; it was not downloaded")
        shutil.copyfileobj(stream, sink, 1 << 20)


def _from_hugging_face(address: str, file: Path) -> None:
    owner, repository, path = address[len(HUGGING_FACE) :].split("/", 2)
    _from_address(f"https://huggingface.co/{owner}/{repository}/resolve/main/{path}", file)
