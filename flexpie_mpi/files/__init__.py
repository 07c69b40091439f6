"""Values in and out of files: what a request reads before it runs, and what it leaves behind.

Files and a graph flow in, named arrays that fit the graph's inputs flow out (``inputs``); named arrays flow in, one
file flows out, whole or not at all (``outputs``). Each format has one module that knows it: ``npz``, ``hdf5`` and
``images``. The difficulty is to refuse early and by name whatever does not fit: nothing is ever unpickled, broadcast,
or silently rounded to another kind of number.
"""
