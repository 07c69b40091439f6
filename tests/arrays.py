"""Whole files of arrays, read through the offers that the product makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flexpie_mpi.files.hdf5 import COUNT, Stack, hdf5_offers
from flexpie_mpi.files.npz import npy_offer, npz_offers


def read_npy(path: Path) -> np.ndarray:
    return npy_offer(path).load()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    return {name: offer.load() for name, offer in npz_offers(path).items()}


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    return {name: offer.load() for name, offer in hdf5_offers(path).items()}


def read_provenance(path: Path) -> dict[str, Any]:
    """The attributes of an HDF5 file."""
    with h5py.File(path, "r") as file:
        return {key: value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()}


def written(path: Path) -> int:
    """Complete requests in a file of results that is being written; 0 while there is none to read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return int(file.attrs[COUNT])
    except (OSError, KeyError):
        return 0


def read_rows(path: Path, name: str = "scores") -> np.ndarray:
    """One output of all complete requests in a file of results."""
    with h5py.File(path, "r") as file:
        return file[name][: file.attrs[COUNT]]


def read_request(stack: Stack, request: int) -> dict[str, np.ndarray]:
    return {name: offer.load() for name, offer in stack.offers(request).items()}
