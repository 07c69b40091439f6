"""From choices to consequences: a plan and a graph become one program per rank.

Lowering is a pure function; every rank does it for itself and a digest comparison catches disagreement. In goes the
plan, out come buffers, steps and messages. The one difficulty: a rank may hold the same value in several buffers (its
shard, a shard with halo fetched for an earlier segment), and everything it holds counts as had.
"""

from .jobs import digest, lower, turns_of

__all__ = ["digest", "lower", "turns_of"]
