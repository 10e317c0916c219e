"""What the run was measured on: the class of the machine, versions, memory."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.version import VERSION

PACKAGES = (
    "torch",
    "warp-lang",
    "diffusers",
    "transformers",
    "trimesh",
    "numpy",
    "xatlas",
    "omegaconf",
)


def versions() -> dict[str, str]:
    """Return the versions of dreamlab, Python and the packages that shape a result."""
    found = {"dreamlab": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_class() -> dict[str, Any]:
    """Describe the machine without naming it: processor, cores, memory, graphics card."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _from_proc("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpu": gpu,
    }


def _from_proc(path: str, key: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key))
    return next(lines, "")


def _memory_gb() -> float | None:
    kilobytes = _from_proc("/proc/meminfo", "MemTotal").removesuffix("kB").strip()
    return round(int(kilobytes) / 1e6, 1) if kilobytes.isdigit() else None


def peak_memory() -> dict[str, float]:
    """Return the most memory used so far, GB: by this process, on the graphics card."""
    peaks = {"rss_gb": round((peak_rss() or _peak_rss_elsewhere()) / 1e9, 3)}
    if torch.cuda.is_available():
        peaks["gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    return peaks


def peak_rss(pid: int | None = None) -> int:
    """Return the most memory that a process has held so far, bytes; 0 where Linux does not tell.

    It is the high-water mark of /proc, not `ru_maxrss`: that outlives `exec`, so a process would
    count what the program that started it had held.

    Args:
        pid: of a running process; None: this one.
    """
    kilobytes = _from_proc(f"/proc/{pid or 'self'}/status", "VmHWM").removesuffix("kB").strip()
    return int(kilobytes) * 1024 if kilobytes.isdigit() else 0


def _peak_rss_elsewhere() -> int:
    """Return what systems without /proc tell, bytes; 0 where there is nothing like it."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
