"""Which implementation an operation runs on, and why.

Every operation has a plain-torch *reference* (what is right, any dtype, any device) and, but for
`texture`, which torch has fast kernels for, a *warp* kernel (fast, float32, CPU and CUDA). The hash
grid can also run on *tinycudann*, triangles on
*nvdiffrast* and splats on *gsplat* where those are installed; they are never chosen unless asked
for.
"""

import functools
import importlib.util
import logging
from dataclasses import dataclass
from typing import Literal

import torch

from dreamlab.core.errors import InputError, MissingError

Backend = Literal["auto", "reference", "warp", "tinycudann", "nvdiffrast", "gsplat"]

OFFERED: dict[str, tuple[Backend, ...]] = {
    "hash_encode": ("reference", "warp", "tinycudann"),
    "march": ("reference", "warp"),
    "composite": ("reference", "warp"),
    "rasterize": ("reference", "warp", "nvdiffrast"),
    "interpolate": ("reference", "warp", "nvdiffrast"),
    "antialias": ("reference", "warp", "nvdiffrast"),
    "texture": ("reference", "nvdiffrast"),
    "normals": ("reference", "warp"),
    "project": ("reference", "warp"),
    "splat": ("reference", "warp", "gsplat"),
}
"""Operation -> what implements it."""

ONE_FORM = {
    "marching_tetrahedra": "torch",
    "tsdf_fusion": "torch",
    "gaussian_density": "warp",
    "nearest_surface": "warp",
    "cast_rays": "warp",
}
"""Operations that nothing is chosen for: what they run on, CPU and CUDA."""

NATIVE = ("tinycudann", "nvdiffrast", "gsplat")
"""Packages that only run on CUDA and that nothing here depends on."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """The implementation that an operation will use."""

    name: str
    """`reference`, `warp`, `tinycudann`, `nvdiffrast` or `gsplat`."""
    reason: str
    """Why, in words for a person."""


def obstacle(backend: str, device: torch.device) -> str | None:
    """Return why `backend` cannot run on `device`, or None if it can."""
    if backend == "warp":
        return _warp_obstacle(device.type)
    if backend in NATIVE:
        if device.type != "cuda":
            return f"{backend} runs on CUDA only"
        if importlib.util.find_spec(backend) is None:
            return f"the package {backend} is not installed"
    return None


@functools.cache
def _warp_obstacle(device_type: str) -> str | None:
    if device_type not in ("cpu", "cuda"):
        return f"Warp has no kernels for {device_type!r} devices"
    if importlib.util.find_spec("warp") is None:
        return "the package warp-lang is not installed"
    from dreamlab.ops import warp_setup

    if device_type == "cuda" and not warp_setup.has_cuda():
        return "Warp found no usable CUDA driver (it needs R580 or newer and a Turing GPU or newer)"
    return None


def choose(op: str, backend: Backend, device: torch.device | str) -> Choice:
    """Decide which implementation `op` runs on.

    `auto` takes the Warp kernel where Warp works and otherwise the reference; that one fallback is
    logged once.

    Raises:
        InputError: `op` has no such backend.
        MissingError: the backend that was asked for cannot run here.
    """
    device = torch.device(device)
    if backend != "auto":
        if backend not in OFFERED[op]:
            raise InputError(
                f"{op} has no backend {backend!r}; it has {', '.join(OFFERED[op])}.",
                "Use backend 'auto' or one of those.",
            )
        problem = obstacle(backend, device)
        if problem is not None:
            raise MissingError(
                f"{op} cannot run on backend {backend!r} on {device}: {problem}.",
                "Use backend 'auto', or install what is missing (see `dreamlab doctor`).",
            )
        return Choice(backend, "asked for")
    if "warp" not in OFFERED[op]:
        return Choice("reference", "made of torch's own kernels, which are fast")
    problem = obstacle("warp", device)
    if problem is None:
        return Choice("warp", f"Warp works on {device.type}")
    _log_fallback(op, problem)
    return Choice("reference", problem)


@functools.cache
def _log_fallback(op: str, problem: str) -> None:
    logger.warning("%s uses the slow plain-torch implementation: %s", op, problem)


def resolve(op: str, backend: Backend, device: torch.device | str) -> str:
    """Return the name of the implementation that `choose` decides on."""
    return choose(op, backend, device).name


def available(op: str, device: torch.device | str) -> list[Backend]:
    """Return the backends of `op` that can run on `device`."""
    device = torch.device(device)
    return [name for name in OFFERED[op] if obstacle(name, device) is None]


def explain(device: torch.device | str) -> dict[str, str]:
    """Say for every operation which implementation `auto` takes on `device`, why, and what else.

    Operations of one form are listed too, as `ONE_FORM` has them.
    """
    device = torch.device(device)
    lines: dict[str, str] = {}
    for op, offered in OFFERED.items():
        choice = choose(op, "auto", device)
        others = {name: obstacle(name, device) for name in offered if name != choice.name}
        here = [name for name in available(op, device) if name != choice.name]
        on_request = f"; on request: {', '.join(here)}" if here else ""
        missing = "".join(f"; {problem}" for problem in others.values() if problem is not None)
        lines[op] = f"{choice.name}: {choice.reason}{on_request}{missing}"
    return lines | {op: f"{name}: its only form" for op, name in ONE_FORM.items()}
