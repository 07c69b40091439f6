"""Search problems made up for tests, and a plain pricing of every path of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import strategies as st

from flexpie_mpi.planner.space import Options, Path, Space

# The definition once more, in scalars


def price(space: Space, path: Path) -> float:
    """Seconds of a path: segments, their entry exchanges, the exit exchange."""
    held = dict(zip(space.alive[0], space.start, strict=True))
    total = 0.0
    for cut, end, layout in path:
        options = space.options[cut]
        (m,) = [m for m in range(len(options.end)) if (options.end[m], options.layout[m]) == (end, layout)]
        total += options.seconds[m]
        slowest, volumes, after = 0.0, 0.0, {}
        for k, value in enumerate(space.alive[cut]):
            column = options.needs[k, m]
            slowest = max(slowest, space.latency[value][held[value], column])
            volumes += space.volume[value][held[value], column]
            after[value] = space.upgrade[held[value], layout] if options.fetches[k, m] else held[value]
        total += slowest + volumes
        held = {value: after.get(value, layout) for value in space.alive[end]}
    slowest = max((space.exit_latency[value][state] for value, state in held.items()), default=0.0)
    return float(total + slowest + sum(space.exit_volume[value][state] for value, state in held.items()))


def load(space: Space, path: Path) -> np.ndarray:
    """Bytes of constants per rank of a path."""
    total = np.zeros(len(space.capacity))
    for cut, end, layout in path:
        options = space.options[cut]
        for m in range(len(options.end)):
            if (options.end[m], options.layout[m]) == (end, layout):
                total += options.weights[m]
    return total


def all_paths(space: Space, cut: int = 0) -> Iterator[Path]:
    """Every path from a cut to the last one."""
    if cut == space.cuts:
        yield ()
        return
    options = space.options[cut]
    for end, layout in zip(options.end.tolist(), options.layout.tolist(), strict=True):
        for rest in all_paths(space, end):
            yield ((cut, end, layout), *rest)


def brute_force(space: Space) -> list[tuple[float, Path]]:
    """Every path that fits into memory, with its seconds, cheapest first."""
    fitting = [path for path in all_paths(space) if (load(space, path) <= space.capacity).all()]
    return sorted((price(space, path), path) for path in fitting)


# Small problems of any shape


@st.composite
def spaces(draw: st.DrawFn, *, max_cuts: int = 6, max_layouts: int = 4, ranks: int = 0) -> Space:
    """Problems of a few cuts and layouts: values that live for any time, ties, zeros, missing options."""
    cuts, layouts = draw(st.integers(1, max_cuts)), draw(st.integers(1, max_layouts))
    states = layouts + draw(st.integers(0, 2))
    lives = _lives(draw, cuts)
    alive = tuple(tuple(v for v, (born, died) in enumerate(lives) if born <= c <= died) for c in range(cuts + 1))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grain = draw(st.sampled_from([1, 3, 100]))  # coarse prices make ties
    columns = [int(random.integers(2, 5)) for _ in lives]
    options = tuple(
        _options(random, cut, cuts, layouts, [columns[value] for value in alive[cut]], grain, ranks)
        for cut in range(cuts)
    )
    full = random.integers(0, states, layouts)
    upgrade = np.where(random.random((states, layouts)) < 0.7, full, np.arange(states)[:, None])
    upgrade[full, np.arange(layouts)] = full  # who has fetched all of it once gains nothing by fetching again
    space = Space(
        options,
        alive,
        tuple(int(random.integers(0, states)) for _ in alive[0]),
        tuple(_table(random, states, width, grain) for width in columns),
        tuple(_table(random, states, width, grain) for width in columns),
        tuple(_coarse(random, states, grain) for _ in columns),
        tuple(_coarse(random, states, grain) for _ in columns),
        upgrade,
    )
    return _with_capacity(space, random, draw(st.floats(0.0, 1.0)), ranks) if ranks else space


def _lives(draw: st.DrawFn, cuts: int) -> list[tuple[int, int]]:
    """First and last cut of every value: a chain, and some that live longer."""
    lives = [(cut, cut) for cut in range(cuts + 1)]
    for _ in range(draw(st.integers(0, 4))):
        born = draw(st.integers(0, cuts))
        lives.append((born, draw(st.integers(born, cuts))))
    return lives[draw(st.integers(0, 1)) :]


def _options(
    random: np.random.Generator, cut: int, cuts: int, layouts: int, columns: list[int], grain: int, ranks: int
) -> Options:
    pairs = [(end, layout) for end in range(cut + 1, cuts + 1) for layout in range(layouts)]
    missing = random.choice([0.0, 0.3, 0.7])
    pairs = [pair for pair in pairs if random.random() >= missing] or [pairs[random.integers(len(pairs))]]
    random.shuffle(pairs)
    count = len(pairs)
    needs = np.array([random.integers(0, width, count) for width in columns], dtype=int).reshape(len(columns), count)
    return Options(
        np.array([end for end, _ in pairs]),
        np.array([layout for _, layout in pairs]),
        _coarse(random, count, grain) * 2,
        needs,
        (needs > 0) & (random.random(needs.shape) < 0.4),
        random.integers(0, 10, (count, ranks)).astype(float),
    )


def _table(random: np.random.Generator, states: int, width: int, grain: int) -> np.ndarray:
    table = _coarse(random, (states, width), grain)
    table[:, 0] = 0
    return table


def _coarse(random: np.random.Generator, shape: int | tuple[int, ...], grain: int) -> np.ndarray:
    return random.integers(0, grain + 1, shape) * (12.0 / grain)


def _with_capacity(space: Space, random: np.random.Generator, share: float, ranks: int) -> Space:
    """The same with room for constants between nothing and all that any path needs."""
    most = np.max([sum(options.weights.max() for options in space.options)])
    capacity = np.ceil(share * most * random.uniform(0.5, 1.0, ranks))
    return Space(**{**vars(space), "capacity": capacity})


# Large problems shaped like networks


def network(
    reads: Sequence[Sequence[int]], layouts: int, *, longest: int = 20, seed: int = 0, memory: float | None = None
) -> Space:
    """A network of atoms that read values (0 is the input, a + 1 is made by atom a), on boards that need not be alike.

    Layout 0 computes everything everywhere, the last one on the root, the others cut in ways that are more or less
    alike (a layout is a place on a circle: the nearer two are, the less there is to fetch). `memory` is what each of
    two ranks can hold, as a share of all constants.
    """
    random = np.random.default_rng(seed)
    count = len(reads)
    last_read = {0: 0} | {atom + 1: count for atom in range(count)}
    last_read.update({value: atom for atom, values in enumerate(reads) for value in values})
    alive = tuple(tuple(v for v in range(cut + 1) if last_read[v] >= cut) for cut in range(count + 1))
    place = np.linspace(0, 1, layouts)
    apart = np.abs(place[:, None] - place[None, :])
    apart = np.minimum(apart, 1 - apart) * 2 + 0.1 * (apart > 0)
    apart[0] = 0  # all ranks have all of it
    size = random.uniform(0.3, 3.0, count + 1) * np.linspace(2, 0.5, count + 1)
    work = random.uniform(0.5, 8.0, count)
    speed = random.uniform(0.25, 0.6, (count, layouts))
    speed[:, 0] = speed[:, -1] = 1
    held = random.uniform(0.5, 2.0, count) * np.linspace(0.2, 4, count)

    def table(value: int, factor: float) -> np.ndarray:
        spans = 1 + 0.15 * np.arange(longest)  # halos grow with the length of the segment that reads
        body = apart[:, None, :] * spans[None, :, None] + 0.02 * spans[None, :, None] * (np.arange(layouts) > 0)
        body[0] = 0
        return np.hstack([np.zeros((layouts, 1)), factor * size[value] * body.reshape(layouts, -1)])

    options = []
    for cut in range(count):
        ends = [end for end in range(cut + 1, min(count, cut + longest) + 1) for _ in range(layouts)]
        pairs = np.array([ends, list(range(layouts)) * (len(ends) // layouts)])
        seconds = [
            (work[cut:end] * speed[cut:end, layout]).sum() * (1 + 0.03 * (end - cut) * (0 < layout < layouts - 1)) + 0.2
            for end, layout in pairs.T
        ]
        readers = [[a for a in range(cut, count) if v in reads[a]] for v in alive[cut]]
        first = np.array([min(atoms, default=count) for atoms in readers])
        needs = np.where(first[:, None] < pairs[0], 1 + (pairs[0] - 1 - first[:, None]).clip(0) * layouts + pairs[1], 0)
        first_share = np.where(pairs[1] == 0, 1.0, np.where(pairs[1] == layouts - 1, 1.0, 0.8 - 0.5 * place[pairs[1]]))
        share = np.stack([first_share, np.where(pairs[1] == 0, 1.0, 1 - first_share)], axis=1)
        weights = np.array([held[cut:end].sum() for end in pairs[0]])[:, None] * share
        options.append(
            Options(
                pairs[0],
                pairs[1],
                np.array(seconds),
                needs,
                (needs > 0) & (pairs[1] % 5 == 0),
                weights if memory is not None else weights[:, :0],
            )
        )
    upgrade = np.tile(np.arange(layouts)[:, None], (1, layouts))
    upgrade[:, ::5] = 0
    upgrade[:, -1] = np.arange(layouts)
    return Space(
        tuple(options),
        alive,
        (layouts - 1,),
        tuple(0.2 * (table(value, 1.0) > 0) for value in range(count + 1)),
        tuple(table(value, 1.0) for value in range(count + 1)),
        tuple(0.2 * (apart[:, -1] > 0) for _ in range(count + 1)),
        tuple(size[value] * apart[:, -1] for value in range(count + 1)),
        upgrade,
        np.full(2, memory * held.sum()) if memory is not None else np.zeros(0),
    )


def chain(count: int) -> list[list[int]]:
    """Every atom reads what the one before made."""
    return [[atom] for atom in range(count)]


def residual(blocks: int, depth: int = 3) -> list[list[int]]:
    """Blocks of a few atoms, the last of which also reads what the block read."""
    reads = []
    for block in range(blocks):
        begin = block * depth
        reads += [[begin + place] for place in range(depth - 1)] + [[begin + depth - 1, begin]]
    return reads


def branching(blocks: int, branches: Sequence[int] = (1, 2, 3, 2)) -> list[list[int]]:
    """Blocks of branches of as many atoms that read the same value, and an atom that joins them."""
    reads: list[list[int]] = []
    for _ in range(blocks):
        source, tips = len(reads), []
        for depth in branches:
            for place in range(depth):
                reads.append([len(reads) if place else source])
            tips.append(len(reads))
        reads.append(tips)
    return reads
