"""Values in and out of files: what a request reads before it runs, and what it leaves behind.

Files and a graph flow in, named arrays that fit the graph's inputs flow out (``inputs``, ``requests``); named arrays
flow in, one file flows out (``outputs``). Each format has one module that knows it: ``npz``, ``hdf5`` and ``images``;
all describe what they hold as ``offers`` before they read it. ``atomic`` alone replaces and locks files. The difficulty
is to refuse early and by name whatever does not fit: nothing is ever unpickled, broadcast, or silently rounded to
another kind of number.
"""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp")
HDF5_SUFFIXES = (".h5", ".hdf5")
INPUT_SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES, *PICTURE_SUFFIXES)
OUTPUT_SUFFIXES = (".npz", *HDF5_SUFFIXES)
"""Endings of what can be read and written: known here, where no library of a format is needed."""

STDIN = "-"
"""The argument that stands for standard input."""
