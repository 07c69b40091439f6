"""Every rank gets its slices, each crosses the root's port once, and what a rank has is not sent again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.core.region import Region
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.model.shard import WeightFiles
from flexpie_mpi.runtime import weights
from flexpie_mpi.runtime.loopback import LoopbackTransport, run_ranks
from flexpie_mpi.runtime.weights import WeightTraffic, distribute
from tests.runtime.weight_model import Slice, expected_bytes, needed, on_rank, write

Found = list[tuple[WeightFiles, WeightTraffic]]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE_BYTES", 1000)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write(tmp_path / "weights.onnx")


def caches(folder: Path) -> Callable[[int], Cache]:
    """Each rank's own disk."""
    return lambda rank: Cache(folder / f"disk{rank}")


def run(path: Path, size: int, cache: Callable[[int], Cache], root: int = 0) -> Found:
    def one_rank(transport: LoopbackTransport) -> tuple[WeightFiles, WeightTraffic]:
        model = on_rank(transport.rank, path, root)
        return distribute(transport, model, needed(transport.rank, size), cache(transport.rank))

    return run_ranks(size, one_rank)


def sizes(path: Path, slices: set[Slice]) -> int:
    return sum(len(expected_bytes(path, *piece)) for piece in slices if piece[0] != "small")


@pytest.mark.parametrize("root", [0, 1])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_slices_are_right_and_leave_the_root_once(model_file: Path, tmp_path: Path, size: int, root: int) -> None:
    found = run(model_file, size, caches(tmp_path), root)
    for rank, (files, _) in enumerate(found):
        assert set(files.names) == {piece for piece in needed(rank, size) if piece[0] != "small"}
        for piece, name in files.names.items():
            assert (files.folder / name).read_bytes() == expected_bytes(model_file, *piece)
    others = [set(needed(rank, size)) for rank in range(size) if rank != root]
    assert found[root][1].sent_bytes == sizes(model_file, set.union(*others))
    assert found[root][1].received_bytes == 0
    for rank, (_, traffic) in enumerate(found):
        assert rank == root or traffic.received_bytes == sizes(model_file, set(needed(rank, size)))
        assert traffic.cached_bytes == 0
    assert sum(t.sent_bytes for _, t in found) == sum(t.received_bytes for _, t in found)


def test_one_rank_needs_no_traffic(model_file: Path, tmp_path: Path) -> None:
    ((files, traffic),) = run(model_file, 1, caches(tmp_path))
    assert traffic == WeightTraffic()
    for piece, name in files.names.items():
        assert (files.folder / name).read_bytes() == expected_bytes(model_file, *piece)


def test_the_second_start_sends_nothing(model_file: Path, tmp_path: Path) -> None:
    cold, warm = (run(model_file, 3, caches(tmp_path)) for _ in range(2))
    for rank in range(3):
        assert warm[rank][1] == WeightTraffic(0, 0, sizes(model_file, set(needed(rank, 3))))
        assert warm[rank][0] == cold[rank][0]


def test_a_damaged_file_is_sent_again_alone(model_file: Path, tmp_path: Path) -> None:
    files, _ = run(model_file, 3, caches(tmp_path))[2]
    piece = ("brain", None)
    path = files.folder / files.names[piece]
    path.write_bytes(path.read_bytes()[:-1])
    again = run(model_file, 3, caches(tmp_path))
    assert again[0][1].sent_bytes == again[2][1].received_bytes == len(expected_bytes(model_file, *piece))
    assert path.read_bytes() == expected_bytes(model_file, *piece)


def test_no_piece_is_larger_than_the_limit(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = LoopbackTransport.send

    def recording(self: LoopbackTransport, array: np.ndarray, target: int, tag: int = 0) -> None:
        sent.append(array.nbytes)
        send(self, array, target, tag)

    monkeypatch.setattr(LoopbackTransport, "send", recording)
    run(model_file, 3, caches(tmp_path))
    whole = len(expected_bytes(model_file, "nibbles", None))  # elements that share bytes are not cut
    assert max(size for size in sent if size != whole) <= 1000


def test_a_disk_that_fills_up_midway_is_left_for_another(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    writer = weights._writer

    def writer_to_a_small_disk(read: Callable) -> Callable[[Path], None]:
        def write_or_fail(path: Path) -> None:
            if path.is_relative_to(tmp_path / "disk1"):
                if len(written) == 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
                written.append(path)
            writer(read)(path)

        return write_or_fail

    monkeypatch.setattr(weights, "_writer", writer_to_a_small_disk)
    disks = {rank: Cache(tmp_path / f"disk{rank}") for rank in range(3)}
    files, traffic = run(model_file, 3, disks.__getitem__)[1]
    assert len(written) == 2
    assert not files.folder.is_relative_to(tmp_path)
    assert traffic.received_bytes == sizes(model_file, set(needed(1, 3)))
    for piece, name in files.names.items():
        assert (files.folder / name).read_bytes() == expected_bytes(model_file, *piece)
    for cache in disks.values():
        cache.close()


def test_a_job_whose_ranks_all_lack_the_weights_says_so(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no rank has the weights of model 'weights'"):
        run(model_file, 2, caches(tmp_path), root=9)


@pytest.mark.parametrize("bounds", [((0, 7),), ((2, 5), (1, 6)), ((0, 1), (0, 1), (3, 9), (0, 4)), ()])
@pytest.mark.parametrize("limit", [1, 3, 5, 1000])
def test_runs_follow_each_other_in_memory(bounds: tuple[tuple[int, int], ...], limit: int) -> None:
    region = Region(bounds)
    addresses = np.arange(region.size).reshape(region.shape)
    found = list(weights.runs(region, limit))
    assert np.concatenate([addresses[run.slices(region)].reshape(-1) for run in found]).tolist() == list(
        range(region.size)
    )
    assert max(run.size for run in found) <= limit


def test_what_has_changed_on_a_disk_since_is_no_weight(model_file: Path, tmp_path: Path) -> None:
    (files, _), *_ = run(model_file, 2, caches(tmp_path))
    piece, name = next(iter(files.names.items()))
    slice_file = files.folder / name
    content = slice_file.read_bytes()
    slice_file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    (again, _), *_ = run(model_file, 2, caches(tmp_path))
    assert (again.folder / again.names[piece]).read_bytes() == content
    before = on_rank(0, model_file, 0)
    whole = model_file.read_bytes()
    place = whole.index(content[:16])
    model_file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert before.store is not None
    with pytest.raises(ModelError, match="is damaged, or has been changed, in"):
        before.store.check(piece[0], before.weight_digest(piece[0]))
