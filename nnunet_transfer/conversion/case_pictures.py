"""Convert one 2D case: an RGB picture and its mask, written as PNG, which nnU-Net reads without loss."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nnunet_transfer.conversion import labels
from nnunet_transfer.conversion.description import Case, Pixels
from nnunet_transfer.conversion.job import Findings, Job, make_record, put_file
from nnunet_transfer.conversion.record import Record
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_path, refuse_special

#: first letter of Pillow's modes with more than 8 bits: whole numbers (I, I;16) and floating point (F)
_WIDE_MODES = "IF"
_LARGEST_RGB = 255
#: zlib's Z_RLE
_RUN_LENGTHS = 3


def convert_picture(case: Case, job: Job, state: str) -> Record:
    """Write the picture and the label of a case.

    Raises
    ------
    DataError
        If the case can't be converted; its files are then removed.
    """
    findings = Findings(actions=list(case.notes))
    with findings.removing_files(job.out):
        _convert(case, job, findings)
    return make_record(case, job, state, findings)


def _convert(case: Case, job: Job, findings: Findings) -> None:
    (source,) = case.images.values()
    folder = "Tr" if case.split == "train" else "Ts"
    picture, unchanged = _read_picture(source, findings)
    if picture.min() == picture.max():
        findings.warn(f"{Path(str(source)).name}: empty, all its values are {picture.min()}")
    findings.measured["shape"] = picture.shape[:2]
    findings.measured["content"] = hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest()
    label = _read_label(case, picture.shape[:2], job, findings)
    name = f"images{folder}/{case.name}_0000.png"
    findings.files.append(name)
    if unchanged and isinstance(source, Path):
        put_file(source, job.out / name, job.link, findings.checksums[0])
    else:
        write_png(picture, job.out / name)
    if label is not None:
        name = f"labels{folder}/{case.name}.png"
        findings.files.append(name)
        write_png(label, job.out / name)


def write_png(array: NDArray[Any], path: Path) -> None:
    """Write a picture or a mask as PNG, atomically and without loss.

    Parameters
    ----------
    array : uint8 of shape `(rows, columns, 3)`, or uint8 or uint16 of shape `(rows, columns)`

    Raises
    ------
    ValueError
        If the array has any other shape or dtype.
    """
    if not (
        (array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8)
        or (array.ndim == 2 and array.dtype in (np.uint8, np.uint16))
    ):
        raise ValueError(f"an array {array.shape} of {array.dtype} is neither an RGB picture nor a mask")
    with atomic_path(path) as temporary:
        # run-length encoding suits filtered rows and masks: files of the same size in a quarter of the time of Pillow's default
        Image.fromarray(array).save(temporary, compress_level=1, compress_type=_RUN_LENGTHS)


def _open(source: Path | Pixels, findings: Findings) -> Image.Image | NDArray[Any]:
    """Return the decoded picture, or the array of an item that isn't a separate file."""
    if not isinstance(source, Path):
        findings.sources.append(source.path)
        return source.read()
    try:
        refuse_special(source)
        stored = source.read_bytes()
        findings.sources.append(source)
        findings.sha256.append(hashlib.sha256(stored).hexdigest())
        findings.checksums.append(isal_zlib.crc32(stored))
        image = Image.open(io.BytesIO(stored))
        # of the two pictures that some cameras save, the first is the photo
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        image.load()
    except UnidentifiedImageError:
        raise DataError(f"{source.name} is not a picture despite its name") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{source.name} can't be read ({error}); copy it again") from None
    if pages > 1:
        raise DataError(f"{source.name} has {pages} pages; split it into one file per picture")
    findings.dtype.append(f"{image.format} {image.mode}")
    return image


def _read_picture(source: Path | Pixels, findings: Findings) -> tuple[NDArray[np.uint8], bool]:
    """Return RGB of shape (rows, columns, 3) and whether the file is an RGB PNG already."""
    image = _open(source, findings)
    if not isinstance(image, Image.Image):
        return image, False
    # Pillow reads 16 bits per colour as 8 and ignores a transparent colour; nnU-Net's reader does neither
    unchanged = (
        image.format == "PNG"
        and image.mode == "RGB"
        and "transparency" not in image.info
        and isinstance(source, Path)
        and _png_bit_depth(source) == 8
    )
    if image.mode[0] in _WIDE_MODES:
        _refuse_wide_values(np.asarray(image), Path(str(source)).name)
    if image.mode != "RGB":
        findings.actions.append(f"{Path(str(source)).name}: {image.mode} turned into RGB")
    return np.asarray(image.convert("RGB")), unchanged


def _refuse_wide_values(values: NDArray[Any], name: str) -> None:
    """Refuse grey values that Pillow would cut to those of RGB."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= _LARGEST_RGB and (values == np.rint(values)).all()):
        raise DataError(
            f"{name} has grey values from {low:g} to {high:g}, which RGB can't hold; scale them to 0 to {_LARGEST_RGB}"
        )


def _png_bit_depth(path: Path) -> int:
    """Return the bits per colour of a PNG file (third edition, W3C 2025, section 11.2.1)."""
    with open(path, "rb") as stream:
        return stream.read(25)[24]


def _read_label(case: Case, shape: tuple[int, ...], job: Job, findings: Findings) -> NDArray[Any] | None:
    if job.rule.foreground:
        return np.ones(shape, np.uint8)
    if not case.masks:
        return None
    ((source,),) = case.masks
    mask = np.asarray(_open(source, findings))  # for a palette picture, the indices
    name = Path(source if isinstance(source, Path) else source.path).name
    if mask.shape != shape:
        raise DataError(f"{name} has {mask.shape} pixels, the picture {shape}; a mask has one value per pixel")
    counts = labels.value_counts(mask)
    label = _labelled(mask, counts, job, name)
    written = labels.value_counts(label)
    findings.measured |= {
        "label_values": tuple(counts),
        "label_voxels": tuple(counts.values()),
        "written_values": tuple(map(int, written)),
        "written_voxels": tuple(written.values()),
    }
    if not any(written):
        findings.warn("empty label")
    return label


def _labelled(mask: NDArray[Any], counts: dict[float, int], job: Job, name: str) -> NDArray[Any]:
    if not job.rule.binary:
        return labels.relabelled(mask, job.rule, name)
    if job.threshold is not None:
        return labels.above(mask, job.threshold)
    return labels.binarised(mask, labels.find_level(counts, mask.dtype, name))
