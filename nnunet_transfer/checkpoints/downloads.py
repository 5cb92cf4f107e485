"""Get a weights file from an address. Nothing is downloaded unless the user gives an address or names a source.

    https://..., http://...             any file; files with PyTorch's naming scheme are kept in torch.hub's folder
    hf://OWNER/REPOSITORY/FILE[@REV]    Hugging Face, through its own library: its cache, its tokens, its offline mode;
                                        without FILE: a source that was published, or the repository's model.safetensors
    timm://MODEL                        the weights that timm knows under this name, e.g. resnet50.a1_in1k
    torchvision://WEIGHTS               torchvision's name, e.g. ResNet50_Weights.IMAGENET1K_V2

Cached files are used without a network connection.
"""

from __future__ import annotations

import errno
import http.client
import logging
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from nnunet_transfer.errors import CheckpointError, one_line, renamed_in_errors
from nnunet_transfer.files import atomic_path, sha256_of

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30
#: maximum size of a download in bytes
MAX_DOWNLOAD = 8 << 30
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.DOTALL)
_HUB_PAGE = re.compile(r"https?://huggingface\.co/([^/]+/[^/]+)/(?:resolve|blob|raw)/([^/]+)/([^?#]+)")
_HUB_ADDRESS = re.compile(r"([^/]+/[^/@]+)(?:/([^@]+))?(?:@(.+))?")
#: the weights file of a repository if no file is named
_HUB_WEIGHTS = ("weights.safetensors", "model.safetensors")
#: PyTorch and timm put the first digits of the SHA-256 into file names
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")
#: the model card, which states the licence, a source's card, settings of the network, and nnssl's plan
_COMPANIONS = ("README.md", "source.json", "config.json", "adaptation_plan.json")
#: valid names of files in our folders, and names that Hugging Face's library may use in a path
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+=-]{0,199}")
_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9 ._+=(),~-]{1,200}")
#: hosts that redirect to other hosts of theirs
_SERVED_BY = {
    "github.com": ("objects.githubusercontent.com", "release-assets.githubusercontent.com", "raw.githubusercontent.com")
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: a checksum that a user states: as many first digits as PyTorch's file names have, or more
_STATED_SHA256 = re.compile(r"[0-9a-f]{8,64}")
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


class _MissingError(CheckpointError):
    """The file doesn't exist on Hugging Face."""


def public_address(address: str) -> str:
    """Return an address without possible secrets: user name, password, query and fragment."""
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        return address.split("?", 1)[0].split("#", 1)[0]
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_address(text: str) -> bool:
    """Whether the text is an address instead of a path."""
    return _ADDRESS.fullmatch(text) is not None


def stated_sha256(address: str) -> str:
    """Return the first digits of the file's SHA-256, if its name contains them."""
    match = _HASH_IN_NAME.search(urllib.parse.urlsplit(address).path)
    return match[1] if match else ""


@contextmanager
def downloaded(address: str, sha256: str = "", who: str = "you state") -> Iterator[Path]:
    """Yield the file at an address; a file that isn't cached is removed at the end of the block.

    Parameters
    ----------
    sha256 : expected checksum, or its first digits; the publisher's checksum is always verified
    who : source of the expected checksum, for the message

    Raises
    ------
    CheckpointError
        If the file doesn't exist, there is no network, or the checksum is wrong.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or match[1] not in SCHEMES:
        raise CheckpointError(
            f"{public_address(address)} is not an address to download from; give one of: {'://, '.join(SCHEMES)}://"
        )
    with tempfile.TemporaryDirectory() as temporary:
        # readers look for settings in the folder above, too, which mustn't be the one that all users share
        folder = Path(temporary) / "download"
        folder.mkdir()
        file = SCHEMES[match[1]](address, folder, bool(sha256))
        _check(file, sha256.lower(), address, who)
        with renamed_in_errors({file: public_address(address)}):
            yield file


@contextmanager
def obtained(location: str | PathLike[str], sha256: str = "") -> Iterator[tuple[Path, str]]:
    """Yield the file or folder at a path or address, and the address if it is one.

    Parameters
    ----------
    sha256 : expected checksum of the file, or its first digits, at least 8

    Raises
    ------
    CheckpointError
        As `downloaded` does, or if `sha256` is too short or not hexadecimal.
    """
    sha256 = sha256.lower()
    if sha256 and not _STATED_SHA256.fullmatch(sha256):
        raise CheckpointError(
            f"sha256 {one_line(sha256, 100)} must be the checksum's 64 digits, or at least its first 8, of 0 to 9 and a to f"
        )
    if isinstance(location, str) and is_address(location):
        with downloaded(location, sha256) as file:
            yield file, location
        return
    path = Path(location)
    if sha256:
        if not path.is_file():
            raise CheckpointError(
                f"{path} is not a file, which alone has a checksum; give a file, or leave --sha256 out"
            )
        _check_sum(path, sha256, str(path), "you state")
    yield path, ""


def _check(file: Path, sha256: str, address: str, who: str) -> None:
    _check_sum(file, sha256, public_address(address), who)


def _check_sum(file: Path, sha256: str, name: str, who: str) -> None:
    if sha256 and not (found := sha256_of(file)).startswith(sha256):
        raise CheckpointError(f"{name} has sha256 {found[: max(12, len(sha256))]}, {who} {sha256}; it was not used")


def _from_web(address: str, folder: Path, checked: bool = False) -> Path:
    if match := _HUB_PAGE.match(address):
        # the revision of a pull request, refs/pr/1, is quoted, too
        revision, name = map(urllib.parse.unquote, match.group(2, 3))
        return _from_hub(f"hf://{match[1]}/{name}@{revision}", folder)
    with _web_in_one_line(address):
        parts = urllib.parse.urlsplit(address)
        host, port, own_path = parts.hostname, parts.port, urllib.parse.unquote(parts.path)
    if not host or port == 0 or not address.isprintable() or " " in address:
        raise CheckpointError(f"{public_address(address)} is not a valid address; give https://HOST/PATH")
    if "@" in parts.netloc:
        raise CheckpointError(f"{public_address(address)} contains a user name; download it yourself and add the file")
    name = own_path.rsplit("/", 1)[-1]
    stated = stated_sha256(address)
    if not _FILE_NAME.fullmatch(name):
        name, stated = "checkpoint", ""
    file = _torch_hub_folder() / name if stated else folder / name
    if file.is_file() and sha256_of(file).startswith(stated):
        return file
    with _web_in_one_line(address), atomic_path(file) as temporary:
        _stream(address, temporary, checked or bool(stated))
        _check(temporary, stated, address, "its name says")
    return file


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follow redirects only on the given host, unless the checksum is known.

    Parameters
    ----------
    checked : whether the checksum is known
    """

    def __init__(self, checked: bool) -> None:
        self.checked = checked

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for a redirect."""
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise CheckpointError(
                f"{public_address(req.full_url)} redirects to {public_address(newurl)}, which is less safe; give an https address"
            )
        own = old.netloc == new.netloc or new.hostname in _SERVED_BY.get(old.hostname or "", ())
        if not own and not self.checked:
            raise CheckpointError(
                f"{public_address(req.full_url)} redirects to another host, {new.hostname}; give that address, or give the "
                f"file's checksum with --sha256"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _torch_hub_folder() -> Path:
    # torchvision and timm also look here
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _stream(address: str, file: Path, checked: bool) -> None:
    from tqdm import tqdm

    # only http and https, see `SCHEMES`
    request = urllib.request.Request(address, headers={"User-Agent": "nnunet_transfer"})
    opener = urllib.request.build_opener(_SameHost(checked))
    shown = public_address(address)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as stream, open(file, "wb") as sink:
        stated = stream.headers.get("Content-Length") or "0"
        if not re.fullmatch(r"[0-9]{1,18}", stated):
            raise CheckpointError(f"{shown} states a length of {stated[:50]}; it was not downloaded")
        size = int(stated)
        if "text/html" in (stream.headers.get("Content-Type") or ""):
            raise CheckpointError(f"{shown} is a web page, not a weights file; give the address of the file itself")
        # None: no bar if the output is not a terminal
        bar = tqdm(total=size or None, desc=file.name, unit="B", unit_scale=True, disable=None)
        received = 0
        with bar:
            while block := stream.read(1 << 20):
                received += len(block)
                if max(size, received) > MAX_DOWNLOAD:
                    raise CheckpointError(f"{shown} is larger than {MAX_DOWNLOAD >> 30} GiB; it was not downloaded")
                sink.write(block)
                bar.update(len(block))
        if received < size:
            raise CheckpointError(f"{shown} ended after {received} of {size} bytes; run the same command again")


def _from_hub(address: str, folder: Path, checked: bool = False) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache

    match = _HUB_ADDRESS.fullmatch(address.removeprefix("hf://"))
    if match is None:
        raise CheckpointError(f"{address} is incomplete; write hf://OWNER/REPOSITORY/FILE[@REVISION]")
    repository, name, revision = match[1], match[2], match[3] or "main"
    if not all(_PART.fullmatch(part) for text in (repository, name or "x", revision) for part in text.split("/")):
        raise CheckpointError(f"{address} has an invalid part; write hf://OWNER/REPOSITORY/FILE")
    if name is None:
        return _weights_of_hub(repository, revision, folder)
    with _hub_in_one_line(address):
        file = Path(hf_hub_download(repository, name, revision=revision))
    # files that many repositories have and readers look for, of the same commit; the cache knows those that don't exist
    for companion in (*_COMPANIONS, *_settings_of_bundle(name)):
        if try_to_load_from_cache(repository, companion, revision=revision) is None:
            try:
                hf_hub_download(repository, companion, revision=revision)
            except errors.LocalEntryNotFoundError as error:
                # no answer, or the user wants none: the cache is all there is
                if not constants.HF_HUB_OFFLINE:
                    _warn_of_companion(repository, companion, error)
                break
            except errors.EntryNotFoundError:
                continue  # the repository has no such file
            except Exception as error:
                # broken connections raise errors of the underlying HTTP library; the weights are complete without this file
                _warn_of_companion(repository, companion, error)
    # the cache names a large file after the checksum from the server
    blob = file.resolve().name
    _check(file, blob if _SHA256.fullmatch(blob) else "", address, "Hugging Face states")
    return file


def _warn_of_companion(repository: str, companion: str, error: Exception) -> None:
    reason = one_line(error) or type(error).__name__
    log.warning("%s of hf://%s was not read, licence or settings may be missing: %s", companion, repository, reason)


def _settings_of_bundle(name: str) -> list[str]:
    """Return the files with the settings of a MONAI bundle, if the weights are in its folder `models`."""
    from nnunet_transfer.checkpoints.found import BUNDLE_FILES  # imports torch

    folder = PurePosixPath(name).parent
    return [(folder.parent / file).as_posix() for file in BUNDLE_FILES] if folder.name == "models" else []


def _weights_of_hub(repository: str, revision: str, folder: Path) -> Path:
    for name in _HUB_WEIGHTS:
        try:
            return _from_hub(f"hf://{repository}/{name}@{revision}", folder)
        except _MissingError:
            continue
    raise CheckpointError(
        f"hf://{repository} has neither {' nor '.join(_HUB_WEIGHTS)}; name a file: hf://{repository}/FILE"
    )


def _from_timm(address: str, folder: Path, checked: bool = False) -> Path:
    import timm

    name = address.removeprefix("timm://")
    try:
        known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the model is known, but not the tag after the dot
        known = None
    if known is None or not known.has_weights:
        raise CheckpointError(f"timm has no weights {name}; see timm.list_models(pretrained=True)")
    if known.hf_hub_id:
        # timm's order: safetensors, which can't contain code, before pickles
        return _from_hub(f"hf://{known.hf_hub_id}/{known.hf_hub_filename or 'model.safetensors'}", folder)
    return _from_web(str(known.url), folder)


def _from_torchvision(address: str, folder: Path, checked: bool = False) -> Path:
    from torchvision.models import get_weight

    name = address.removeprefix("torchvision://")
    try:
        weights = get_weight(name)
    except (ValueError, KeyError, AttributeError):
        raise CheckpointError(
            f"torchvision has no weights {name}; its names are like ResNet50_Weights.IMAGENET1K_V2"
        ) from None
    return _from_web(weights.url, folder)


#: kind of address -> function that gets its file into the folder or a cache, given whether the user states a checksum
SCHEMES: dict[str, Callable[[str, Path, bool], Path]] = {
    "https": _from_web,
    "http": _from_web,
    "hf": _from_hub,
    "timm": _from_timm,
    "torchvision": _from_torchvision,
}


@contextmanager
def _web_in_one_line(address: str) -> Iterator[None]:
    """Convert network errors to one line; disk errors of this machine pass unchanged."""
    shown = public_address(address)
    try:
        yield
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{shown} answers {error.code} ({one_line(error.reason, 200)}); it may have moved"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in _OF_THE_MACHINE:
            raise
        if isinstance(error, http.client.InvalidURL):
            raise CheckpointError(f"{shown} is not a valid address; give https://HOST/PATH") from None
        raise CheckpointError(_offline(shown, one_line(getattr(error, "reason", error), 200))) from None
    except ValueError:
        # urllib's error for invalid hosts, ports and characters, in the address or in a redirect
        raise CheckpointError(f"{shown} is or redirects to an invalid address") from None


@contextmanager
def _hub_in_one_line(address: str) -> Iterator[None]:
    """Convert network errors of Hugging Face's library to one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{address} needs your consent: accept its terms on its page at huggingface.co, then `hf auth login`"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise CheckpointError(_offline(address, "Hugging Face does not answer, and it is not in the cache")) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise _MissingError(f"{address} does not exist on Hugging Face ({type(error).__name__})") from None
    except Exception as error:
        # broken connections raise errors of the underlying HTTP library, which differs between major versions
        if getattr(error, "errno", None) in _OF_THE_MACHINE:
            raise
        raise CheckpointError(_offline(address, str(error))) from None


def _offline(address: str, reason: str) -> str:
    cache = ""
    if stated_sha256(address):
        cache = f"put it into {_torch_hub_folder()} here, or "
    return (
        f"{address} can't be reached ({' '.join(reason.split())}); download the file where there is a network, and then {cache}"
        f"give its path instead of the address or name (`nnunet_transfer sources add FILE`; in a study: `checkpoint`)"
    )
