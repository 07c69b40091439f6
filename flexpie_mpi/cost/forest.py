"""Forests: gradient-boosted trees out of LightGBM's text, read and predicted without LightGBM.

The text comes from a file, so nothing in it is believed: every number has its range, every child is the child of one
node, and sizes are bounded. Predictions are bitwise those of LightGBM, which trains them (:mod:`.gbdt`).

How a forest predicts. The thresholds of a column, of all trees, cut the numbers into *bins*, in each of which every
node decides alike. A table of the column says for every bin and tree which leaves can still be reached, one bit per
leaf; what the tables of all columns leave of a tree is a single leaf.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..core.errors import CostError

MOST_LEAVES = 16
"""A tree has so many leaves at most: one bit each of the type below."""

MOST_TREES, MOST_COLUMNS, MOST_CATEGORIES = 1000, 256, 4096

_Mask = np.uint16
_LEAF = np.zeros(1 << MOST_LEAVES, np.intp)
_LEAF[1 << np.arange(MOST_LEAVES)] = np.arange(MOST_LEAVES)
"""The only leaf of a mask."""

_ROWS = 1024
"""Rows that are predicted at once: their masks and leaves stay in the cache."""

_CATEGORY, _DEFAULT_LEFT = 1, 2
"""Bits of a node's decision type; the two above them say what counts as missing."""
_ZERO_MISSING, _NAN_MISSING = 1, 2
_ZERO = 1.0000000180025095e-35
"""LightGBM takes what is no larger for zero: the float of 1e-35, as a double."""

_HEAD = re.compile(r"Tree=([0-9]{1,4})")
_WHOLE = re.compile(r"-?[0-9]{1,18}")


class ForestError(CostError):
    """A text is no forest that can be predicted."""


class Node(NamedTuple):
    """A node of a tree."""

    column: int
    kind: int  # LightGBM's decision type
    threshold: float
    named: frozenset[int]  # categories that go to the left
    # `at_left` and `at_right`: leaves below its children, one bit each
    at_left: int
    at_right: int


class Tree(NamedTuple):
    """Values of the leaves, and all nodes."""

    values: tuple[float, ...]
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Forest:
    """Trees as LightGBM's own text, which is all that there is to them.

    Raises ForestError on first use, when the text is no forest.
    """

    text: str

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Logarithms of factors, float array (n,), for features (n, F); categories are whole numbers.

        Raises ForestError when there are other columns than the forest knows.
        """
        if features.shape[1:] != (self.columns,):
            raise ForestError(f"the forest knows {self.columns} columns, and {features.shape[1:]} are given")
        if not self.trees:
            return np.zeros(len(features))
        pieces = [self._predicted(features[first : first + _ROWS]) for first in range(0, len(features), _ROWS)]
        return np.concatenate(pieces) if pieces else np.zeros(0)

    @property
    def rounds(self) -> int:
        """Number of trees."""
        return len(self.trees)

    @property
    def columns(self) -> int:
        """Number of columns of its features."""
        return self._parsed[0]

    @property
    def trees(self) -> tuple[Tree, ...]:
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[int, tuple[Tree, ...]]:
        return _parsed(self.text)

    @cached_property
    def _tables(self) -> tuple[tuple[int, np.ndarray, np.ndarray], ...]:
        """(column, edges, leaves that its numbers leave (bins, trees)) of every column that some node looks at."""
        nodes: dict[int, list[tuple[int, Node]]] = {}
        for number, tree in enumerate(self.trees):
            for node in tree.nodes:
                nodes.setdefault(node.column, []).append((number, node))
        return tuple((column, *_table(nodes[column], len(self.trees))) for column in sorted(nodes))

    @cached_property
    def _values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The leaves' values of all trees in a row, where each tree's begin, and the leaves that each has (trees,)."""
        flat = np.zeros((len(self.trees), MOST_LEAVES))
        for number, tree in enumerate(self.trees):
            flat[number, : len(tree.values)] = tree.values
        has = np.array([(1 << len(tree.values)) - 1 for tree in self.trees], _Mask)
        return flat.reshape(-1), np.arange(len(self.trees))[:, None] * MOST_LEAVES, has

    def _predicted(self, rows: np.ndarray) -> np.ndarray:
        flat, first, has = self._values
        masks = np.repeat(has[None], len(rows), axis=0)
        for column, edges, left in self._tables:
            numbers = rows[:, column]
            bins = edges.searchsorted(numbers)
            bins += np.isnan(numbers)  # it is sorted behind all edges, where infinity is
            masks &= left.take(bins, axis=0)
        leaves = np.ascontiguousarray(masks.T)
        # tree by tree, as LightGBM adds them: the first axis is summed in its order
        return np.add.reduce(flat.take(_LEAF.take(leaves) + first), axis=0)


def _table(numbered: Sequence[tuple[int, Node]], trees: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins of a column, and the leaves (bins, trees) that its nodes, by tree, leave to numbers of each."""
    numbered = sorted(numbered, key=lambda pair: pair[1].kind & _CATEGORY)
    plain = [node for _, node in numbered if not node.kind & _CATEGORY]
    by_set = [node for _, node in numbered if node.kind & _CATEGORY]
    # numbers up to which, and including which, some node may decide in one way, and beyond them in another
    thresholds = {float(np.nextafter(-_ZERO, -np.inf)), _ZERO, *(node.threshold for node in plain)}
    categories = {edge for node in by_set for category in node.named for edge in (category - 1.0, float(category))}
    edges = np.array(sorted(thresholds | categories))
    examples = np.concatenate((edges, [np.inf, np.nan]))  # the last number of every bin
    is_left = np.column_stack((_below(plain, examples), _named(by_set, examples)))
    left = np.full((len(examples), trees), ~_Mask(0))
    for (tree, node), goes_left in zip(numbered, is_left.T, strict=True):
        left[:, tree] &= np.where(goes_left, ~_Mask(node.at_right), ~_Mask(node.at_left))
    return edges, left


def _below(nodes: Sequence[Node], numbers: np.ndarray) -> np.ndarray:
    """Which of the numbers (n,) go to the left at each node that compares, bool array (n, nodes), as in LightGBM."""
    kinds = np.array([node.kind for node in nodes], np.int64)
    thresholds = np.array([node.threshold for node in nodes], float)
    missing, is_nan = kinds >> 2, np.isnan(numbers)[:, None]
    compared = np.where(is_nan & (missing != _NAN_MISSING), 0.0, numbers[:, None])
    is_missing = np.where(missing == _ZERO_MISSING, np.abs(compared) <= _ZERO, np.isnan(compared))
    return np.where(is_missing, kinds & _DEFAULT_LEFT != 0, compared <= thresholds)


def _named(nodes: Sequence[Node], numbers: np.ndarray) -> np.ndarray:
    """Which of the numbers (n,) go to the left at each node that asks for categories, bool array (n, nodes)."""
    return np.array([[number in node.named for node in nodes] for number in numbers.tolist()], bool)


def _parsed(text: str) -> tuple[int, tuple[Tree, ...]]:
    """Number of columns, and the trees, of LightGBM's text."""
    blocks = list(_blocks(text))
    head = blocks[0]
    columns = _whole(head, "max_feature_idx", 0, MOST_COLUMNS - 1) + 1
    for key in ("num_class", "num_tree_per_iteration"):
        _whole(head, key, 1, 1)
    if "average_output" in head:
        raise ForestError("the forest is the mean of its trees, and only sums are read")
    return columns, tuple(_tree(block, f"tree {number}", columns) for number, block in enumerate(blocks[1:]))


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """Keys and values of the text's head and then of every tree."""
    lines = iter(text.splitlines())
    if next(lines, "") != "tree":
        raise ForestError("the text is no forest: its first line is not 'tree'")
    block: dict[str, str] = {}
    trees = 0
    for line in lines:
        if line == "end of trees":
            yield block
            return
        if _HEAD.fullmatch(line):
            trees += 1
            if trees > MOST_TREES or line != f"Tree={trees - 1}":
                raise ForestError(f"tree {trees - 1} is out of order, or one of more than {MOST_TREES}")
            yield block
            block = {}
        elif line:
            key, _, value = line.partition("=")
            if key in block:
                raise ForestError(f"tree {trees - 1} has '{key[:40]}' twice")
            block[key] = value
    raise ForestError("the text of the forest is cut off")


def _tree(block: Mapping[str, str], where: str, columns: int) -> Tree:
    leaves = _whole(block, "num_leaves", 1, MOST_LEAVES)
    nodes = leaves - 1
    if block.get("is_linear", "0") != "0":
        raise ForestError(f"{where} is linear in its leaves, and only constant ones are read")
    values = _floats(block, "leaf_value", leaves, where)
    if not nodes:
        return Tree(values)
    sets = _sets(block, where)
    split = _wholes(block, "split_feature", nodes, 0, columns - 1, where)
    kinds = _wholes(block, "decision_type", nodes, 0, (_NAN_MISSING << 2) + 3, where)
    left, right = (_wholes(block, f"{side}_child", nodes, -leaves, nodes - 1, where) for side in ("left", "right"))
    thresholds = _floats(block, "threshold", nodes, where, has_infinite=True)  # all numbers against NaN
    named = []
    for kind, threshold in zip(kinds, thresholds, strict=True):
        if kind & _CATEGORY and threshold not in range(len(sets)):
            raise ForestError(f"{where} names a set of categories that it does not have: {threshold:g} of {len(sets)}")
        named.append(sets[int(threshold)] if kind & _CATEGORY else frozenset())
    has_one_parent = sorted((*left, *right)) == [*range(-leaves, 0), *range(1, nodes)]
    order = _from_the_root(left, right) if has_one_parent else []  # else the walk might never end
    if len(order) < nodes:
        raise ForestError(f"{where} is no tree: a node or a leaf is not the child of exactly one node")
    below = {~leaf: 1 << leaf for leaf in range(leaves)}  # leaves below a child, which is a leaf when it is below 0
    for node in reversed(order):
        below[node] = below[left[node]] | below[right[node]]
    sides = ([below[child] for child in side] for side in (left, right))
    return Tree(values, tuple(map(Node, split, kinds, thresholds, named, *sides)))


def _from_the_root(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """The nodes that can be reached, each after its parent; every one once where each has one parent."""
    reached = [0]
    for node in reached:
        reached += [child for child in (left[node], right[node]) if child > 0]
    return reached


def _sets(block: Mapping[str, str], where: str) -> tuple[frozenset[int], ...]:
    """The sets of categories, which the text has as bits of 32-bit words, one set behind the other."""
    count = _whole(block, "num_cat", 0, MOST_LEAVES)
    if not count:
        return ()
    bounds = _wholes(block, "cat_boundaries", count + 1, 0, count * (MOST_CATEGORIES // 32), where)
    if bounds[0] != 0 or any(not 0 < b - a <= MOST_CATEGORIES // 32 for a, b in pairwise(bounds)):
        raise ForestError(f"{where} has sets of categories that are empty, or of more than {MOST_CATEGORIES}")
    words = _wholes(block, "cat_threshold", bounds[-1], 0, 2**32 - 1, where)
    spans = (words[first:end] for first, end in pairwise(bounds))
    return tuple(
        frozenset(32 * index + bit for index, word in enumerate(span) for bit in range(32) if word >> bit & 1)
        for span in spans
    )


def _whole(block: Mapping[str, str], key: str, least: int, most: int) -> int:
    return _wholes(block, key, 1, least, most, "the forest")[0]


def _wholes(block: Mapping[str, str], key: str, count: int, least: int, most: int, where: str) -> tuple[int, ...]:
    """So many whole numbers within bounds."""
    words = _words(block, key, count, where)
    numbers = tuple(int(word) if _WHOLE.fullmatch(word) else most + 1 for word in words)
    if not all(least <= number <= most for number in numbers):
        raise ForestError(f"{where}: '{key}' must be whole numbers from {least} to {most}")
    return numbers


def _floats(
    block: Mapping[str, str], key: str, count: int, where: str, *, has_infinite: bool = False
) -> tuple[float, ...]:
    """So many numbers, none of which is NaN, nor infinite unless some may be."""
    with suppress(ValueError):
        numbers = tuple(map(float, _words(block, key, count, where)))
        if not any(math.isnan(number) or (math.isinf(number) and not has_infinite) for number in numbers):
            return numbers
    raise ForestError(f"{where}: '{key}' must be {'numbers' if has_infinite else 'finite numbers'}")


def _words(block: Mapping[str, str], key: str, count: int, where: str) -> list[str]:
    if key not in block:
        raise ForestError(f"{where} lacks '{key}'")
    words = block[key].split(" ", count)
    if len(words) != count:
        raise ForestError(f"{where}: '{key}' must be {count} numbers")
    return words
