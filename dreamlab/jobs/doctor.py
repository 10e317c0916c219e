"""Checks of the machine and the installation: what is there, what is missing, what to do.

Each check returns findings and never raises; network look-ups are short and are skipped when
HF_HUB_OFFLINE is set. Heavy libraries are imported inside the checks.
"""

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from dreamlab.core.locations import cache_dir

Status = Literal["ok", "note", "problem"]
PYTHONS = ((3, 11), (3, 13))
OPTIONAL_PACKAGES = {
    "gradio": "the web interface: pip install -e '.[web]' in the clone",
    "tinycudann": "a native hash grid on CUDA; build it from its repository",
    "nvdiffrast": "native triangles on CUDA, a licence of its own; build it from its repository",
    "gsplat": "native splatting on CUDA: pip install gsplat",
}
REQUIRED_PACKAGES = (
    "diffusers",
    "transformers",
    "trimesh",
    "xatlas",
    "fast_simplification",
    "safetensors",
    "imageio",
    "skimage",
)
NETWORK_TIMEOUT_S = 3.0
LOW_DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    area: str
    """What was looked at."""
    status: Status
    """`ok`; `note`: works, but know this; `problem`: something will not work."""
    detail: str
    """What was found."""
    fix: str = ""
    """What to do about it."""


def examine(runs: Path, *, network: bool = True) -> Iterator[Finding]:
    """Yield all findings.

    Args:
        runs: the folder that runs would be written to.
        network: ask the hub which models can be reached.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        check_python,
        check_torch,
        check_cuda,
        check_warp,
        check_ops,
        check_packages,
        check_blender,
        lambda: check_folders(runs),
        check_video,
        lambda: check_models(network),
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # a broken library must not hide the findings after it
            name = getattr(check, "__name__", "check").removeprefix("check_")
            yield Finding(name, "problem", _line(error), "reinstall with -c constraints.txt.")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def check_python() -> Iterator[Finding]:
    """The interpreter and the machine."""
    low, high = PYTHONS
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if low <= sys.version_info[:2] <= high:
        yield Finding("python", "ok", found)
    else:
        fix = "use Python {}.{} to {}.{}.".format(*low, *high)
        yield Finding("python", "problem", found, fix)


def check_torch() -> Iterator[Finding]:
    """Torch, its threads, and the instruction sets it uses."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    bf16 = sorted(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    extra = f", bfloat16 by {' and '.join(bf16)}" if bf16 else ""
    detail = f"{torch.__version__}, {threads} threads on {cores} cores, {capability}{extra}"
    yield Finding("torch", "ok", detail)
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if policy.upper() != "PASSIVE":
        yield Finding(
            "torch",
            "note",
            f"OMP_WAIT_POLICY is {policy or 'not set'}: several threads can be very slow on a busy "
            "machine",
            "set OMP_WAIT_POLICY=PASSIVE, or unset it and use the dreamlab command.",
        )


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())


def check_cuda() -> Iterator[Finding]:
    """Graphics cards, and whether this build of torch can use them."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            memory = card.total_memory / 2**30
            yield Finding("cuda", "ok", f"{card.name}, {memory:.0f} GiB")
    elif shutil.which("nvidia-smi"):
        build = torch.version.cuda or "the CPU build"
        yield Finding(
            "cuda",
            "problem",
            f"there is an NVIDIA driver, but torch ({build}) cannot use it",
            "install a CUDA build of torch that fits the driver.",
        )
    else:
        yield Finding("cuda", "note", "no NVIDIA card; everything runs on the CPU")


def check_packages() -> Iterator[Finding]:
    """Packages that dreamlab needs, and those it can use."""
    missing = [name for name in REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        fix = "install again: pip install -c constraints.txt -e ."
        yield Finding("packages", "problem", f"missing: {', '.join(missing)}", fix)
    else:
        yield Finding("packages", "ok", f"all {len(REQUIRED_PACKAGES)} required ones are there")
    for name, purpose in OPTIONAL_PACKAGES.items():
        if importlib.util.find_spec(name) is None:
            yield Finding(name, "note", "not installed (optional)", purpose + ".")
        else:
            yield Finding(name, "ok", f"{_version_of(name)} (optional)")


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "installed"


def check_blender() -> Iterator[Finding]:
    """Blender's package, in the interpreter that would run it."""
    from dreamlab.export.files.blender import VARIABLE, has_bpy, interpreter

    named = os.environ.get(VARIABLE)
    how = "pip install bpy in an environment of its own, see docs/blender.md."
    if has_bpy():
        yield Finding("bpy", "ok", f"in {interpreter()} (optional)")
    elif named:
        yield Finding("bpy", "problem", f"{VARIABLE} names {named}, which has no bpy", how)
    else:
        yield Finding("bpy", "note", "not installed (optional)", f"FBX, USD and .blend: {how}")


def check_folders(runs: Path) -> Iterator[Finding]:
    """Folders that are written to."""
    for area, folder in (("runs", runs), ("cache", cache_dir())):
        place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=place):
                pass
        except OSError as error:
            fix = "choose another with --output." if area == "runs" else "set DREAMLAB_CACHE."
            yield Finding(area, "problem", f"{folder}: {error.strerror or error}", fix)
            continue
        free = shutil.disk_usage(place).free / 1e9
        status: Status = "ok" if free > LOW_DISK_GB else "problem"
        fix = "" if status == "ok" else "free some space on this disk."
        yield Finding(area, status, f"{folder} can be written, {free:.1f} GB free", fix)


def check_video() -> Iterator[Finding]:
    """The encoder of turntable videos."""
    import imageio_ffmpeg

    try:
        yield Finding("ffmpeg", "ok", imageio_ffmpeg.get_ffmpeg_version())
    except RuntimeError as error:
        fix = "reinstall imageio-ffmpeg, or put ffmpeg on the PATH."
        yield Finding("ffmpeg", "problem", str(error), fix)


def check_warp() -> Iterator[Finding]:
    """Warp and the folder that it keeps compiled kernels in."""
    from dreamlab.ops.warp_setup import warp_summary

    yield Finding("warp", "ok", warp_summary())


def check_ops() -> Iterator[Finding]:
    """Which backend each operation will use here, why, and which others there are."""
    import torch

    from dreamlab.ops.backends import explain

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for op, reason in explain(device).items():
        yield Finding(f"op {op}", "ok", reason)


def check_models(network: bool) -> Iterator[Finding]:
    """The diffusion models: on this machine, reachable, or gone."""
    from dreamlab.priors.hub import find_local, is_hub_id, is_offline
    from dreamlab.priors.load import known_models

    reach = network and not is_offline()
    for alias, model in known_models().items():
        area = f"model {alias}"
        local = next(filter(None, map(find_local, model.sources)), None)
        if local is not None:
            yield Finding(area, "ok", f"on this machine: {local}")
            continue
        hub_ids = [source for source in model.sources if is_hub_id(source)]
        if not hub_ids:
            fix = "reinstall dreamlab; its weights are part of the package."
            yield Finding(area, "problem", "its weights are missing", fix)
        elif not reach:
            fix = "run once with a network (HF_HUB_OFFLINE unset) to download it."
            yield Finding(area, "note", "not on this machine; the hub was not asked", fix)
        else:
            yield _reachable(area, hub_ids)


def _reachable(area: str, hub_ids: list[str]) -> Finding:
    from huggingface_hub import HfApi

    from dreamlab.priors.hub import explain

    problems: list[str] = []
    for hub_id in hub_ids:
        try:
            HfApi().model_info(hub_id, timeout=NETWORK_TIMEOUT_S)
            return Finding(area, "ok", f"{hub_id} will be downloaded when it is first used")
        except Exception as error:  # the hub client raises kinds of several libraries
            problems.append(f"{hub_id}: {explain(error)}")
            if "cannot be reached" in problems[-1]:
                break
    fix = "connect to the network, or give a folder in Stable Diffusion's layout as prior.model."
    return Finding(area, "note", "; ".join(problems), fix)
