"""Read weights in the safetensors format within limits; write them with checks and hashing in a single pass.

The writer of safetensors needs a second pass over the file for the checksum, hides the system's error number when the
disk is full, and creates files that only their owner can read. The format is a length (8 bytes, little-endian), a JSON
header and the bytes of the tensors: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm import tqdm

from nnunet_transfer.errors import SourceError, one_line
from nnunet_transfer.files import parse_json

#: dtypes of weights and of BatchNorm's counter -> names in the format
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
_ALIGNMENT = 8
#: maximum size of a header in bytes, names and shapes of about 100 bytes each, and maximum number of tensors in a file; the
#: largest networks have some thousand
MAX_HEADER = 16 << 20
MAX_TENSORS = 100_000
#: seconds after which a progress bar appears on a terminal
BAR_AFTER = 1.0


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, memory-mapped.

    Raises
    ------
    SourceError
        If the file is damaged, or its header is larger than that of any network.
    """
    try:
        with open(path, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(MAX_HEADER, path.stat().st_size):
                raise SourceError(f"{path} has a header of {length} bytes; it is damaged; copy or download it again")
            described = parse_json(stream.read(length).decode("utf-8"))
        if isinstance(described, dict) and len(described) > MAX_TENSORS:
            raise SourceError(f"{path} holds {len(described)} tensors; no network has so many")
        return load_file(path)
    except (SafetensorError, struct.error, ValueError, OSError, RuntimeError) as error:
        raise SourceError(f"{path} is damaged ({one_line(error, 200)}); copy or download it again") from None


def write_weights(tensors: Mapping[str, torch.Tensor], path: Path) -> str:
    """Write contiguous CPU tensors to `path`; return the file's SHA-256.

    Raises
    ------
    SourceError
        If a tensor has NaN or infinite values in 32 bits; `path` is then incomplete.
    """
    header, offset = {}, 0
    # writing the widest types first keeps every tensor aligned
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    digest = hashlib.sha256()
    # hashing and writing release Python's global lock, so they run in parallel
    bar = tqdm(
        total=offset, desc="reading weights", unit="B", unit_scale=True, disable=None, delay=BAR_AFTER, leave=False
    )
    with open(path, "wb") as stream, ThreadPoolExecutor(1) as hashing, bar:
        head = len(text).to_bytes(8, "little") + text
        done = hashing.submit(digest.update, head)
        stream.write(head)
        for name, tensor in ordered:
            if tensor.is_floating_point() and not _all_finite(tensor):
                raise SourceError(
                    f"{name} has NaN or infinite values in 32 bits; train the network again or leave it out"
                )
            block = _bytes(tensor)
            done = hashing.submit(digest.update, block)
            stream.write(block)
            bar.update(len(block))
        done.result()
    return digest.hexdigest()


def _all_finite(tensor: torch.Tensor) -> bool:
    # NaN and infinity survive summation, so one pass without a mask is enough for nearly all tensors. Use numpy's sum,
    # because torch's threads would compete with the hashing. numpy has no bfloat16, and networks have 32 bits
    values = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float64) else tensor
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.numpy().sum()
    return bool(np.isfinite(total)) or bool(torch.isfinite(values).all())


def _bytes(tensor: torch.Tensor) -> memoryview:
    # a view of the same memory as bytes, because numpy has no bfloat16
    content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(content)
