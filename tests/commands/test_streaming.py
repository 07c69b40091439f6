"""``infer`` with many requests, as a user types it: in order, each once, until the end or a signal."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import threading

import h5py
import numpy as np
import pytest

from flexpie_mpi import load
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import turns_of
from flexpie_mpi.lower.memory import PROCESS_BYTES, memory_of
from flexpie_mpi.measure.compare import Reference
from flexpie_mpi.runtime.mpi import library
from flexpie_mpi.session.streaming import StreamHandler
from tests.arrays import read_hdf5
from tests.launch import LIMIT_S, REPOSITORY, wait_for_results

TINY = "builtin:tiny_cnn"

BOARD = """
format = 1
topology = "switch"

[link]
bandwidth = "1Gb/s"
latency = "50us"

[[device]]
name = "pi"
memory = "{} B"
"""


@pytest.fixture(scope="module")
def model():
    return load(TINY)


@pytest.fixture(scope="module")
def reference(model):
    return Reference(model, 1)


def frame(number):
    """A request that is told from others by its outputs."""
    return np.random.default_rng(number).standard_normal((1, 3, 32, 32), np.float32)


def expected(reference, requests):
    return np.stack([reference.outputs({"input": request})["scores"] for request in requests])


def pipeline_plan(graph, *teams):
    """Segments of about as many nodes, each on one rank, or on several in turn."""
    names = [node.name for node in graph.nodes]
    cuts = [place * len(names) // len(teams) for place in range(len(teams) + 1)]
    segments = [
        Segment(tuple(names[a:b]), *_layouts(ranks)) for a, b, ranks in zip(cuts, cuts[1:], teams, strict=False)
    ]
    return Plan(tuple(segments), 1 + max(rank for ranks in teams for rank in ranks), graph.digest)


def _layouts(ranks):
    first, *turns = (Layout("single", (rank,)) for rank in ranks)
    return first, tuple(turns)


def test_files_by_name_in_order(one, reference, tmp_path):
    for number in range(11):
        np.save(tmp_path / f"{number}.npy", frame(number))
    paths = {"--output": tmp_path / "out.h5", "--json": tmp_path / "run.json"}
    words = ["infer", "--model", TINY, "--input", tmp_path / "*.npy", "--verify", "--warmup", 4, "--in-flight", 2]
    code, out, err = one(*words, *(word for pair in paths.items() for word in pair))
    assert (code, err) == (0, "")
    found = read_hdf5(paths["--output"])["scores"]
    np.testing.assert_allclose(found, expected(reference, map(frame, range(11))), rtol=1e-4, atol=1e-5)
    record = json.loads(paths["--json"].read_text())
    assert (record["requests"], record["warmup"], record["in_flight"], record["written"]) == (11, 4, 2, 11)
    assert record["throughput_rps"] > 0 and record["verify"] == record["verify"] | {"equal": True, "requests": 11}
    assert record["latency_s"]["p50"] <= record["latency_s"]["p90"] <= record["latency_s"]["max"]
    (stage,) = record["stages"]
    assert (stage["ranks"], stage["first_node"], stage["last_node"]) == ([0], "stem", "classifier")
    assert 0 < stage["busy_share"] <= 1 and stage["predicted_s"] is None
    for said in ("11 requests in", "after 4 to warm up", "p99", "busy", "verify   11 of 11 requests equal"):
        assert said in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_stream_goes_on_in_the_same_file_with_the_next_numbers(one, model, reference, tmp_path):
    words = ["infer", "--model", TINY, "--seed", 5, "--append", "--output", tmp_path / "out.h5"]
    for count in (3, 4):
        code, _, err = one(*words, "--requests", count)
        assert (code, err) == (0, "")
    requests = (random_inputs(model.graph, 5, number)["input"] for number in range(7))
    found = read_hdf5(tmp_path / "out.h5")["scores"]
    np.testing.assert_allclose(found, expected(reference, requests), rtol=1e-4, atol=1e-5)
    code, _, err = one(*words[:-3], "--output", tmp_path / "out.h5", "--requests", 1)
    assert code == 2 and "there already: --append adds to it" in err


def test_what_a_stream_wrote_can_be_streamed(one, tmp_path):
    with h5py.File(tmp_path / "requests.h5", "w") as file:
        file["input"] = np.stack([frame(number) for number in range(4)])
    words = ["infer", "--model", TINY, "--input", tmp_path / "requests.h5", "--requests", 3, "--json", "-"]
    code, out, err = one(*words)
    assert (code, err) == (0, "")
    assert json.loads(out)["requests"] == 3 and json.loads(out)["data"].endswith("requests.h5; at most 3")


def test_a_bad_request_ends_the_stream_and_keeps_those_before_it(one, tmp_path):
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", frame(number))
    (tmp_path / "3.npy").write_bytes(b"no numbers")
    code, out, err = one("infer", "--model", TINY, "--input", tmp_path / "*.npy", "--output", tmp_path / "out.h5")
    assert (code, out) == (2, "")
    assert "request 3: " in err and "3.npy' cannot be read as a .npy file" in err and len(err.splitlines()) == 1
    assert len(read_hdf5(tmp_path / "out.h5")["scores"]) == 3


def test_a_difference_is_exit_code_1_and_names_the_request(one, monkeypatch, tmp_path):
    deliver = StreamHandler.deliver

    def wrong(desk, number, outputs, latency_s):
        deliver(desk, number, {name: value + (number == 3) for name, value in outputs.items()}, latency_s)

    monkeypatch.setattr(StreamHandler, "deliver", wrong)
    code, out, _ = one("infer", "--model", TINY, "--requests", 6, "--verify", "--json", tmp_path / "run.json")
    assert code == 1 and "verify   request 3 DIFFERS from one onnxruntime session: output 'scores'" in out
    found = json.loads((tmp_path / "run.json").read_text())["verify"]
    assert (found["equal"], found["different"], found["first_different"]) == (False, 1, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--in-flight", "2"], "--in-flight goes with a stream"),
        (["--append"], "--append goes with a stream"),
        (["--requests", "2", "--append"], "--append adds to a file: give --output as well"),
        (["--requests", "2", "--output", "out.npz"], "the outputs of a stream (random, seed 0) go to .h5"),
        (["--requests", "2", "--report"], "--report looks at single requests"),
        (["--requests", "2", "--timeline", "t.json"], "--timeline looks at single requests"),
        (["--requests", "0"], "'0' is not a whole number from 1 on"),
        (["--requests", "2", "--in-flight", "many"], "'many' is not a whole number from 1 on"),
        (["--input", "no/*.png"], "no file fits the pattern 'no/*.png'"),
    ],
)
def test_what_does_not_go_together(one, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = one("infer", "--model", TINY, *words)
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_board_without_room_for_the_whole_model_does_not_verify(one, model, tmp_path):
    plan = pipeline_plan(model.graph, (0,))
    (need,) = memory_of(turns_of(plan, model.graph), model.graph)
    (tmp_path / "plan.json").write_text(plan.to_json())
    (tmp_path / "board.toml").write_text(BOARD.format(need.total_bytes(1) + model.graph.weight_bytes // 2))
    words = ["infer", "--model", TINY, "--plan", tmp_path / "plan.json", "--testbed", tmp_path / "board.toml"]
    words += ["--requests", 2]
    code, out, err = one(*words, "--verify")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert re.search(
        r"--verify holds the whole model on rank 0, \d+ MB of weights beside \d+ MB .* 'pi' has \d+ MB: .* without", err
    )
    assert one(*words)[0] == 0


@pytest.mark.parametrize("words", [[], ["--layout", "rows"], ["--requests", 2]], ids=["auto", "rows", "stream"])
def test_no_plan_starts_on_a_board_without_room_for_it(one, words, tmp_path):
    (tmp_path / "board.toml").write_text(BOARD.format(PROCESS_BYTES + 1000))
    code, out, err = one("infer", "--model", TINY, "--testbed", tmp_path / "board.toml", *words)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert re.search(r"rank 0 needs \d+ MB of memory .* and 'pi' has 92 MB: make a plan for this testbed", err)


def test_a_named_pipe_and_its_end(one, reference, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def write():
        with (tmp_path / "pipe").open("wb") as pipe:
            for number in range(5):
                payload = io.BytesIO()
                np.save(payload, frame(number))
                pipe.write(struct.pack("<Q", payload.tell()) + payload.getvalue())

    threading.Thread(target=write, daemon=True).start()
    code, _, err = one("infer", "--model", TINY, "--input", tmp_path / "pipe", "--output", tmp_path / "out.h5")
    assert (code, err) == (0, "")
    found = read_hdf5(tmp_path / "out.h5")["scores"]
    np.testing.assert_allclose(found, expected(reference, map(frame, range(5))), rtol=1e-4, atol=1e-5)


@pytest.mark.mpi
def test_a_pipeline_of_three_ranks(job, model, reference, tmp_path):
    (tmp_path / "plan.json").write_text(pipeline_plan(model.graph, (0,), (1, 2)).to_json())
    testbed = REPOSITORY / "hostfiles" / "flexpie-switch3-1g.toml"
    words = ["infer", "--model", TINY, "--plan", tmp_path / "plan.json", "--requests", 60, "--verify"]
    done = job(3, *words, "--output", tmp_path / "out.h5", "--json", tmp_path / "run.json", "--testbed", testbed)
    assert done.code == 0, done
    requests = (random_inputs(model.graph, 0, number)["input"] for number in range(60))
    found = read_hdf5(tmp_path / "out.h5")["scores"]
    np.testing.assert_allclose(found, expected(reference, requests), rtol=1e-4, atol=1e-5)
    record = json.loads((tmp_path / "run.json").read_text())
    assert [(stage["ranks"], stage["turns"]) for stage in record["stages"]] == [([0], 1), ([1, 2], 2)]
    assert record["in_flight"] == 8 and record["verify"]["requests"] == 60
    assert all(stage["predicted_s"] > 0 for stage in record["stages"])
    assert record["bottleneck"]["predicted"]["seconds"] > 0 and "formulas only" in record["bottleneck"]["basis"]
    assert len([line for line in done.out.splitlines() if line.startswith("stream ")]) == 1


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_a_signal_to_the_launcher_ends_an_endless_stream_in_order(mpirun, tmp_path):
    """SIGTERM, but for Open MPI's launcher, which passes that on to nobody: SIGUSR1 reaches all ranks of both."""
    folder, output = tmp_path / "frames", tmp_path / "out.h5"
    folder.mkdir()
    words = ["infer", "--model", TINY, "--layout", "rows", "--input", folder, "--output", output, "--json", "-"]
    with mpirun.started(2, "-m", "flexpie_mpi", *words) as process:
        for number in range(3):
            np.save(folder / ".part.npy", frame(number))
            (folder / ".part.npy").rename(folder / f"{number}.npy")
            wait_for_results(output, number + 1, process)
        process.send_signal(signal.SIGTERM if "MPICH" in library() else signal.SIGUSR1)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    record = json.loads(out)
    assert (record["requests"], record["written"]) == (3, 3) and record["stopped_by"] in ("SIGTERM", "SIGUSR1")
