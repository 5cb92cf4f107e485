"""Checks of torch and torchvision, and of the GPU that they can use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

from nnunet_transfer.doctor.findings import IMPORT_TIMEOUT, Finding, State
from nnunet_transfer.gpus import named_gpus

# runs in a separate process: a broken build may raise, abort or hang
_IMPORT_TORCH = """
import json, importlib.metadata as m
found = {"torch": None, "torchvision": None, "error": None, "gpu": None, "cuda": None}
for name in ("torch", "torchvision"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
try:
    import torch
    found["torch"] = torch.__version__
    found["cuda"] = getattr(getattr(torch, "version", None), "cuda", None)
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    elif torch.backends.mps.is_available():
        found["gpu"] = "Apple MPS"
    import torchvision
    found["torchvision"] = torchvision.__version__
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(found))
"""


def check_torch() -> Iterator[Finding]:
    """Whether torch and torchvision import together, and whether there is a GPU."""
    command = [sys.executable, "-c", _IMPORT_TORCH]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT)
    except subprocess.TimeoutExpired:
        yield Finding("torch", State.FAIL, f"importing it took more than {IMPORT_TIMEOUT} s", "install it again")
        return
    try:
        found = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"torch": None, "torchvision": None, "error": f"Python ended with status {run.returncode}"}
    yield _torch_finding(found["torch"], found["torchvision"], found["error"])
    if not found["error"]:
        yield _gpu_finding(found["gpu"], found["cuda"])


def _gpu_finding(gpu: str | None, cuda: str | None) -> Finding:
    if gpu:
        return Finding("GPU", State.OK, gpu)
    card = _graphics_card()
    if card and cuda is None:
        fix = "install torch and torchvision together for your CUDA: https://pytorch.org/get-started/locally"
        return Finding("GPU", State.FAIL, f"there is {card}, but this torch is built without CUDA", fix)
    if card:
        fix = "update the NVIDIA driver, or install a torch for an older CUDA"
        return Finding("GPU", State.FAIL, f"there is {card}, but torch (CUDA {cuda}) can't use it", fix)
    fix = "training will be slow; add `-device cpu` to nnU-Net's commands"
    return Finding("GPU", State.WARN, "none that torch can use", fix)


def _graphics_card() -> str:
    """Return the GPUs that NVIDIA's driver lists; empty without a driver or a card."""
    program = shutil.which("nvidia-smi")
    if program is None or named_gpus() == []:
        return ""
    try:
        run = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.splitlines()[0].split(" (UUID")[0] if run.returncode == 0 and run.stdout.strip() else ""


def _torch_finding(torch: str | None, torchvision: str | None, error: str | None) -> Finding:
    found = f"torch {torch or 'missing'}, torchvision {torchvision or 'missing'}"
    if error is None:
        return Finding("torch", State.OK, found)
    together = "pip install --force-reinstall torch torchvision"
    if torch is None or torchvision is None:
        return Finding("torch", State.FAIL, f"{found} ({error})", "pip install torch torchvision")
    if "torchvision::" in error or "different CUDA" in error or "libtorch" in error or "undefined symbol" in error:
        return Finding(
            "torch",
            State.FAIL,
            f"{found} are different builds (for example one for CPU and one for CUDA) and can't be imported together "
            f"({error}); this breaks nnU-Net's trainer lookup",
            f"install both in one command from one index: {together}",
        )
    return Finding("torch", State.FAIL, f"{found} can't be imported ({error})", together)
