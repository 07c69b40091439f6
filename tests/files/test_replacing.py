from __future__ import annotations

import pytest

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files import atomic
from flexpie_mpi.files.atomic import check_replaceable, write_text


def test_a_check_leaves_nothing_and_changes_nothing(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("old")
    check_replaceable(str(old))
    check_replaceable(str(tmp_path / "new.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"] and old.read_text() == "old"


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "plan.json"
    write_text(str(path), "one")
    write_text(str(path), "two ☃")
    assert path.read_text(encoding="utf-8") == "two ☃" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("place", ["missing/plan.json", "file/plan.json", "folder", "n" * 300])
def test_what_cannot_be_written_is_refused_in_a_sentence_that_names_it(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for function in (check_replaceable, lambda path: write_text(path, "text")):
        with pytest.raises(DataError, match="cannot be written") as caught:
            function(str(tmp_path / place))
        assert place in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    path.write_text("old")

    def full(self, text, encoding):
        with self.open("w") as file:
            file.write(text[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.Path, "write_text", full)
    with pytest.raises(DataError, match="No space left"):
        write_text(str(path), "new text")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
