"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("flexpie-mpi", "mpi4py", "numpy", "onnx", "onnxruntime", "lightgbm")


def versions(mpi_library: str = "") -> dict[str, str]:
    """Versions of Python, of the packages that matter to a result, and of the MPI library if there is one.

    Packages that are not installed (a source tree that is run as it is) are left out.
    """
    packages = {package: found for package in PACKAGES if (found := _version(package))}
    library = {"mpi": mpi_library} if mpi_library else {}
    return {"python": platform.python_version(), **packages, **library}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
