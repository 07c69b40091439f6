"""Laws of the box algebra, checked against sets of points."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie_mpi.core.region import Region, split, split_weighted

bounds = st.tuples(st.integers(0, 5), st.integers(0, 5))
regions = st.tuples(bounds, bounds).map(Region)


def points(region: Region) -> set[tuple[int, ...]]:
    return set(product(*(range(lo, hi) for lo, hi in region.bounds)))


@given(regions, regions)
def test_intersection_and_containment_are_those_of_points(a, b):
    assert points(a.intersect(b)) == points(a) & points(b)
    assert a.contains(b) == (points(b) <= points(a))
    assert a.is_empty == (not points(a)) and a.size == len(points(a))


@given(regions, regions)
def test_subtract_gives_disjoint_boxes_of_exactly_the_rest(a, b):
    boxes = a.subtract(b)
    rest = [point for box in boxes for point in points(box)]
    assert len(rest) == len(set(rest)) and set(rest) == points(a) - points(b)
    assert len(boxes) <= 2 * a.ndim and not any(box.is_empty for box in boxes)


@given(regions, regions)
def test_hull_is_the_smallest_box_with_both(a, b):
    hull = a.hull(b)
    assert hull.contains(a) and hull.contains(b)
    for axis, (lo, hi) in enumerate(hull.bounds):
        for smaller in ((lo + 1, hi), (lo, hi - 1)):
            candidate = hull.with_axis(axis, smaller)
            assert hull.is_empty or not (candidate.contains(a) and candidate.contains(b))


@given(st.integers(0, 40), st.integers(1, 9))
def test_split_is_a_near_equal_partition(extent, parts):
    ranges = [split(extent, parts, index) for index in range(parts)]
    assert [i for lo, hi in ranges for i in range(lo, hi)] == list(range(extent))
    lengths = [hi - lo for lo, hi in ranges]
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(0, 60), st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_weighted_split_is_a_partition_within_one_of_the_ideal(extent, weights):
    ranges = split_weighted(extent, weights)
    assert [i for lo, hi in ranges for i in range(lo, hi)] == list(range(extent))
    for (lo, hi), weight in zip(ranges, weights, strict=True):
        assert abs((hi - lo) - extent * weight / sum(weights)) < 1
        assert weight or lo == hi


def test_scalar_region_holds_one_element():
    scalar = Region.full(())
    assert scalar.size == 1 and not scalar.is_empty and scalar.contains(scalar)
    assert scalar.subtract(scalar) == ()


@pytest.mark.parametrize("region, text", [(Region(((1, 3), (0, 2))), "[1:3, 0:2]"), (Region(()), "[]")])
def test_text(region, text):
    assert str(region) == text
