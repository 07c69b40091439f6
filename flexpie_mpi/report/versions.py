"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("flexpie-mpi", "mpi4py", "numpy", "onnx", "onnxruntime")


def versions(mpi_library: str = "") -> dict[str, str]:
    """Versions of Python, of the packages that matter to a result, and of the MPI library if there is one.

    Packages that are not installed (a source tree that is run as it is) are left out.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | ({"mpi": mpi_library} if mpi_library else {})
