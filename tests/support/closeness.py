"""What "fast and reference agree" means, in one place, and on which backends it is checked.

Kernels of Warp are checked three times: on the CPU; as compiled for an NVIDIA GPU and carried out
by `ptx`, which needs none; and on a GPU where there is one.
"""

import pytest
import torch
from torch import Tensor

from dreamlab.ops import backends

VALUE_RTOL, VALUE_ATOL = 1e-5, 1e-6
"""float32 values."""
GRADIENT_RELATIVE, GRADIENT_COSINE = 1e-3, 0.999
"""float32 gradients: L2 error relative to the reference, and cosine with it."""
LOOSE_RELATIVE = 1e-2
"""Optional native backends, which may work in half precision."""


LOOSE = ("tinycudann", "gsplat")
"""Those which differ in a limit or in precision."""


PTX = pytest.param("cpu", marks=pytest.mark.ptx, id="ptx")
KERNEL_DEVICES = ["cpu", PTX, pytest.param("cuda", marks=pytest.mark.gpu)]
"""Where a kernel runs that has no other backend."""


def fast_backends(op: str) -> list:
    """Return one parameter (backend, device) for each fast backend, skipped with the reason why."""
    emulated = pytest.param(("warp", "cpu"), marks=pytest.mark.ptx, id="warp-ptx")
    parameters = [emulated] if "warp" in backends.OFFERED[op] else []
    for device in ("cpu", "cuda"):
        for name in backends.OFFERED[op]:
            if name == "reference" or (name in backends.NATIVE and device == "cpu"):
                continue
            reason = None
            if device == "cuda" and not torch.cuda.is_available():
                reason = "no CUDA device"
            reason = reason or backends.obstacle(name, torch.device(device))
            marks = [pytest.mark.skip(reason=reason)] if reason else []
            parameters.append(pytest.param((name, device), marks=marks, id=f"{name}-{device}"))
    return parameters


def assert_values_agree(fast: Tensor, reference: Tensor, backend: str = "warp") -> None:
    assert fast.shape == reference.shape
    fast, reference = fast.detach().double().cpu(), reference.detach().double().cpu()
    if backend in LOOSE:
        assert (fast - reference).norm() <= LOOSE_RELATIVE * reference.norm()
        return
    scale = reference.abs().max().clamp(min=1) if reference.numel() else torch.tensor(1.0)
    torch.testing.assert_close(fast, reference, rtol=VALUE_RTOL, atol=VALUE_ATOL * float(scale))


def assert_gradients_agree(fast: Tensor, reference: Tensor, backend: str = "warp") -> None:
    assert fast.shape == reference.shape
    fast, reference = fast.detach().double().cpu(), reference.detach().double().cpu()
    norm = reference.norm()
    assert norm > 0, "the reference gradient vanishes, so nothing would be compared"
    limit = LOOSE_RELATIVE if backend in LOOSE else GRADIENT_RELATIVE
    assert (fast - reference).norm() / norm <= limit
    cosine = (fast * reference).sum() / (fast.norm() * norm)
    assert cosine >= GRADIENT_COSINE
