"""Standard streams as users leave them, and models that come through a pipe: a sentence, or it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flexpie_mpi.commands import output
from flexpie_mpi.core.errors import DataError
from flexpie_mpi.model.read import spooled
from tests.launch import LIMIT_S, REPOSITORY, environment


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One with a name that ASCII does not have."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["é"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("é", TensorProto.FLOAT, [1, 8])],
    )
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def shell(text, **extra):
    """(exit code, stdout, stderr) of a line of bash in which ``flexpie`` is the program."""
    line = f'set -o pipefail; flexpie() {{ "{sys.executable}" -m flexpie_mpi "$@"; }}; {text}'
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment(extra), cwd=REPOSITORY, timeout=LIMIT_S
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("to", "code", "said"),
    [
        (">/dev/full", 2, "standard output cannot be written: No space left on device"),
        (">&-", 2, "standard output cannot be written: Bad file descriptor"),
        ("| true", 0, ""),
        (">&- 2>&-", 2, ""),
        (">/dev/full 2>/dev/full", 2, ""),
    ],
)
def test_a_stdout_that_takes_nothing(model, to, code, said):
    for words in (f"inspect '{model}'", "--help") if said else ("--version",):
        found = shell(f"flexpie {words} {to}")
        assert found == (code, "", f"flexpie-mpi: error: {said}\n" if said else "")


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_all_ranks_end_when_the_root_cannot_print(mpirun, model, tmp_path):
    program = tmp_path / "full.py"
    program.write_text(
        "import os, sys\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
        "from flexpie_mpi.__main__ import main\nsys.exit(main())\n"
    )
    words = [
        "infer",
        "--model",
        str(model),
        "--repeat",
        "1",
        "--trace-budget",
        "0",
        "--output",
        str(tmp_path / "o.npz"),
    ]
    done = mpirun.outcome(2, str(program), *words)
    assert done.code == 2 and done.err.count("standard output cannot be written: No space") == 1, done
    assert "Traceback" not in done.err and "rank 0:" not in done.err and (tmp_path / "o.npz").exists()


def test_names_that_ascii_does_not_have(model, tmp_path):
    words = f"infer --model '{model}' --repeat 1 --trace-budget 0 --verify -v --output '{tmp_path / 'o.npz'}'"
    code, out, err = shell(f"flexpie {words} && flexpie inspect '{model}'", PYTHONIOENCODING="ascii", LANG="C")
    assert code == 0 and "Traceback" not in err and "\\xe9" in out
    assert list(np.load(tmp_path / "o.npz")) == ["é"]
    strange = os.fsencode(tmp_path) + b"/\xe9\xff.onnx"
    shutil.copy(model, strange)
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, out, err = shell(f"cd '{tmp_path}'; flexpie inspect *.onnx; flexpie inspect é.onnx", **c_locale)
    assert code == 2 and out.startswith("model    \\xe9\\xff: 1 node") and len(err.splitlines()) == 1


def test_a_model_through_a_pipe(model, tmp_path):
    words = f"--repeat 1 --trace-budget 0 --verify --output '{tmp_path / 'o.npz'}'"
    for how in (f"--model <(cat '{model}')", f"--model /dev/stdin < <(cat '{model}')"):
        code, out, err = shell(f"flexpie infer {how} {words}", TMPDIR=str(tmp_path))
        assert (code, err) == (0, "") and "verify   equal" in out
        assert out.startswith(("model    stdin", "model    6"))  # bash calls its pipes /dev/fd/63 and less
    assert not list(tmp_path.glob("tmp*"))
    for how, said in (("<(head -c 100 /dev/zero)", "no ONNX model"), ("/dev/null", "is a device")):
        code, _, err = shell(f"flexpie inspect {how}")
        assert code == 2 and said in err and len(err.splitlines()) == 1


def test_what_comes_through_a_pipe_can_be_read_twice(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"bytes",), daemon=True).start()
    path = spooled(tmp_path / "pipe")
    assert path.read_bytes() == path.read_bytes() == b"bytes"
    os.close(int(path.name))
    assert spooled(tmp_path / "gone") == tmp_path / "gone"


def test_emitting_to_a_full_stream(monkeypatch, tmp_path):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(DataError, match="No space left"):
            output.emit("text")
        output.emit("more")  # goes nowhere
