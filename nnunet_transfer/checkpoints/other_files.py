"""Files that are no weights, recognised by their first bytes to say what to do with them."""

from __future__ import annotations

from pathlib import Path

from nnunet_transfer.files import POINTERS

_UNPACK = "unpack it, and give the file or folder that is in it"
_STATE_DICT = "save the weights as a state dict of PyTorch's, or as safetensors"
#: place of the bytes -> the bytes -> what the file is, and what to do
_KINDS: dict[int, dict[bytes, str]] = {
    0: {
        b"\x1f\x8b": f"is compressed with gzip; {_UNPACK}",
        b"BZh": f"is compressed with bzip2; {_UNPACK}",
        b"\xfd7zXZ\0": f"is compressed with xz; {_UNPACK}",
        b"\x28\xb5\x2f\xfd": f"is compressed with Zstandard; {_UNPACK}",
        b"7z\xbc\xaf\x27\x1c": f"is a 7-Zip archive; {_UNPACK}",
        b"Rar!": f"is a RAR archive; {_UNPACK}",
        b"\x89HDF\r\n\x1a\n": f"is an HDF5 file, as Keras writes them; {_STATE_DICT}",
        b"\x93NUMPY": f"is a NumPy array; {_STATE_DICT}",
        b"MATLAB 5.0": f"is a MATLAB file; {_STATE_DICT}",
        # the first two fields of a protocol buffer: a version, and a text
        **{bytes((8, version, 18)): f"is a model for ONNX or TensorFlow; {_STATE_DICT}" for version in range(1, 32)},
        b"<": "is a web page or another text; download the file itself",
        b"{": "is a JSON text; give the weights file",
    },
    257: {b"ustar": f"is a tar archive; {_UNPACK}"},
}
_LONGEST = 512


def other_kind(path: Path) -> str:
    """Return what a file is and what to do with it, as the rest of a sentence; empty if it may be a weights file."""
    with open(path, "rb") as stream:
        head = stream.read(_LONGEST)
    for start, command in POINTERS.items():
        if head.startswith(start):
            return f"is not downloaded yet, only its pointer is: `{command} {path}`"
    texts = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for place, kinds in _KINDS.items():
        for start, text in kinds.items():
            if head.startswith(start, place) or (not place and texts.startswith(start)):
                return text
    return ""
