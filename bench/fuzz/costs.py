"""Files of cost models: JSON, with LightGBM's text for trees inside."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cases import Kind, Place
from hdf5s import traces
from mutate import REALS, WHOLES, changed, damaged, to_json
from texts import graph

from flexpie_mpi.cost.features import features_of
from flexpie_mpi.cost.file import load_cost, save_cost
from flexpie_mpi.cost.fit import fit
from flexpie_mpi.cost.gbdt import Lesson, train
from flexpie_mpi.planner import layout_plan, price
from flexpie_mpi.testbed import Device, switch


@cache
def _record() -> dict[str, Any]:
    """A file's content with one forest of few trees."""
    cost = fit(traces())
    rows = traces().tables["compute"]
    features = features_of("compute", rows, np.ones(len(rows)), cost.prior, cost.ops)
    lesson = Lesson(features, np.arange(len(rows)) % 5 / 10, np.ones(len(rows)), (0,) * features.shape[1])
    with TemporaryDirectory() as folder:
        path = Path(folder, "cost.json")
        save_cost(cost, path)
        record: dict[str, Any] = json.loads(path.read_text())
    record["forests"]["compute"] = train(lesson, 3).text
    return record


def _forest(text: str, rng: Random) -> str:
    """LightGBM's lines with other numbers, other lengths, or other lines."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = (
            [number for number, line in enumerate(lines) if "=" in line] if rng.random() < 0.8 else range(len(lines))
        )
        place = rng.choice(list(places) or [0])
        action = rng.randrange(8)
        key, equals, words = lines[place].partition("=")
        found = words.split(" ")
        if action < 4 and equals:
            spot = rng.randrange(len(found))
            found[spot] = str(rng.choice((*WHOLES[:-2], *REALS, "", "x", -2, -(10**6), 10**6)))
            lines[place] = f"{key}={' '.join(found)}"
        elif action == 4 and equals:
            lines[place] = f"{key}={' '.join(found * rng.choice((0, 2, 50)))}"
        elif action == 5:
            lines.pop(place)
            lines = lines or [""]
        elif action == 6:
            lines.insert(place, lines[place])
        else:
            lines[place] = damaged(lines[place].encode(), rng).decode(errors="replace")
    whole = "\n".join(lines)
    return _with_sizes(whole) if rng.random() < 0.7 else whole


def _with_sizes(text: str) -> str:
    """The text with right sizes of trees, without which LightGBM looks no further."""
    trees = re.split(r"(?=^Tree=)", text.partition("end of trees")[0], flags=re.M)[1:]
    sizes = " ".join(str(len(tree.encode())) for tree in trees)
    return re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.M)


def _make_cost(rng: Random, place: Place) -> Path:
    record = dict(_record())
    action = rng.random()
    if action < 0.55:
        record["forests"] = {"compute": _forest(record["forests"]["compute"], rng)}
    elif action < 0.9:
        record = changed(record, rng)
    if isinstance(record, dict) and rng.random() < 0.9:
        content = {key: found for key, found in record.items() if key not in ("format", "version", "digest")}
        text = json.dumps(content, sort_keys=True)
        record["digest"] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    data = to_json(record, rng, indent=1).encode()
    path = place.files / "cost.json"
    path.write_bytes(damaged(data, rng) if action > 0.85 else data)
    return path


def _read_cost(path: Path, place: Place) -> object:
    """What ``plan --cost`` does, with a rule's plan."""
    cost = load_cost(path)
    testbed = switch([Device(f"board{rank}") for rank in range(2)], 1e8, 5e-5)
    priced = price(layout_plan(graph(), 2, "rows"), graph(), testbed, cost)
    outside = cost.outside(traces().tables["compute"])
    factors = [cost.device_factor(origin) for origin in traces().origins]
    return [priced.seconds, outside.sum(), factors]


KINDS_OF_COST = (Kind("cost", _make_cost, _read_cost),)
