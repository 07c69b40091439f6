"""What a result was made with."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("flexpie-mpi", "mpi4py", "numpy", "onnx", "onnxruntime", "lightgbm")


def versions(mpi_library: str = "") -> dict[str, str]:
    """Versions of Python, of the packages that matter to a result, and of the MPI library if there is one.

    Packages that are not installed (a source tree that is run as it is) are left out.
    """
    packages = {package: installed for package in PACKAGES if (installed := version_of(package))}
    library = {"mpi": mpi_library} if mpi_library else {}
    return {"python": platform.python_version(), **packages, **library}


def machine() -> str:
    """This machine in a line: processor, cores that this process may use, and system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    plural = "" if cores == 1 else "s"
    return f"{processor()}, {cores} core{plural}, {platform.system()} {platform.release()} {platform.machine()}"


@cache
def processor() -> str:
    """Model of the processor as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    names = (facts.get(key, "") for key in ("model name", "Model", "Hardware"))
    return next(filter(None, names), platform.processor() or platform.machine())


def version_of(package: str) -> str:
    """Version of an installed package; empty for a source tree that is run as it is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
