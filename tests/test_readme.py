"""Every command and script in the documents is run, in the order of the text, in a folder with what it supposes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flexpie_mpi.model.zoo import materialise

from .launch import LIMIT_S, REPOSITORY, environment, launcher

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "flexpie_mpi/README.md",
    "flexpie_mpi/planner/README.md",
    "flexpie_mpi/pipeline/README.md",
    "hostfiles/README.md",
    "bench/README.md",
    "bench/placement/README.md",
)
"""In the order in which they are read."""

TEXTS = {name: (REPOSITORY / name).read_text() for name in DOCUMENTS}
TEXT = TEXTS["README.md"]
COMMANDS = [found for text in TEXTS.values() for found in re.findall(r"^\$ (.*?)(?:\s+#.*)?$", text, re.MULTILINE)]
AS_ROOT = [
    found for text in TEXTS.values() for found in re.findall(r"^# (flexpie-mpi .*?)(?:\s+#.*)?$", text, re.MULTILINE)
]
INSTALLING = ("make infer", "make test", "make lint", "pip install")
"""Commands that make environments: running the tests is itself one of them, and a test never installs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a model, a picture and a hostfile, as a reader of the README would have."""
    path = tmp_path_factory.mktemp("reader")
    shutil.copyfile(materialise("tiny_cnn", path), path / "model.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(path / "photo.png")
    (path / "boards.hosts").write_text("localhost\n")
    for name in ("tests", "bench", "hostfiles"):
        (path / name).symlink_to(REPOSITORY / name)
    return path


def test_the_installing_commands_are_those_of_the_makefile():
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in (command for command in COMMANDS if command.startswith("make ")):
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
    extras = (REPOSITORY / "setup.cfg").read_text()
    assert "\nmpich =" in extras and "\nopenmpi =" in extras


@pytest.mark.mpi
@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith(INSTALLING)])
def test_the_command_runs(command, folder):
    start = launcher()
    if start is None:
        pytest.skip("there is no mpirun beside this python or on the PATH")
    words = _brief(shlex.split(command))
    if words[0] == "mpirun":
        words[:1] = start
        words = [part for word in words for part in _program(word)]
        if "-ppn" in words:  # four boards are one machine here
            words[words.index("-ppn") + 1] = "4"
    else:
        words = [*_program(words[0]), *words[1:]]
    result = subprocess.run(
        words,
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    allowed = (0, 1) if "doctor" in words else (0,)  # this machine may be busy, which the doctor says
    assert result.returncode in allowed, f"{shlex.join(words)}\n{result.stdout}\n{result.stderr}"
    assert result.stdout.strip()


@pytest.mark.mpi
@pytest.mark.parametrize("command", AS_ROOT)
def test_the_command_runs_as_root(command, folder, namespaces):
    test_the_command_runs(command, folder)


def _environment(folder: Path) -> dict[str, str]:
    """With a cache of its own: what is measured here for a moment is nothing to keep."""
    return environment({"FLEXPIE_CACHE": str(folder / "cache")})


BRIEF = {
    "--part": "5", "--operators": "4", "--graphs": "1", "--trials": "4", "--budget": "2",
    "builtin:resnet18": "builtin:tiny_resnet", "builtin:vgg16": "builtin:tiny_vgg",
}  # fmt: skip
"""What stands behind an option, or for a network: what the command does is the same, on less of it."""


def _brief(words: list[str]) -> list[str]:
    """The command on less than a reader would give it, and measuring for a second or two."""
    words = [BRIEF.get(before, word) if before.startswith("--") else word for before, word in pairwise(["", *words])]
    words = [BRIEF.get(word, word) if ":" in word else word for word in words]
    if "emulate" in words and "--dry-run" not in words:
        words = [*words[:3], "--no-check", *words[3:]]  # how fast links are is no matter of the documents
    if "bench" in words and "hosts" not in words:
        return [*words, "--traces", "traces.h5", "--only", "*ring3*"]  # which an earlier command has made
    if "infer" in words and not {"--layout", "--plan", "--trace-budget"} & {*words}:
        return [*words, "--trace-budget", "1"]
    if "trace" in words and not {"--merge", "--budget"} & {*words}:
        return [*words, "--budget", "2"]
    return words


def _program(word: str) -> list[str]:
    """The words that start this checkout's program with this python, whatever is on the PATH."""
    return {"flexpie-mpi": [sys.executable, "-m", "flexpie_mpi"], "python": [sys.executable]}.get(word, [word])


@pytest.mark.mpi
def test_the_script_runs(folder):
    start = launcher()
    if start is None:
        pytest.skip("there is no mpirun beside this python or on the PATH")
    script = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL).group(1)
    (folder / "script.py").write_text(script)
    plain = script.replace("flexpie_mpi as", "onnxruntime as").replace(', layout="rows"', "")
    (folder / "plain.py").write_text(plain.replace("builtin:tiny_cnn", str(materialise("tiny_cnn", folder))))
    said = []
    for words in ([*start, "-n", "3", sys.executable], [sys.executable], [sys.executable, "plain.py"]):
        command = words if words[-1] == "plain.py" else [*words, "script.py"]
        result = subprocess.run(
            command, cwd=folder, env=_environment(folder), capture_output=True, text=True, timeout=LIMIT_S
        )
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    assert re.fullmatch(r"0 \d\n1 \d\n2 \d\n", said[0]) and said[0] == said[1] == said[2]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_lead_somewhere(name):
    folder = (REPOSITORY / name).parent
    targets = re.findall(r"\]\(([^)#]+)(#[^)]*)?\)", TEXTS[name]) + re.findall(
        r'(?:src|srcset)="([^"]+)()"', TEXTS[name]
    )
    for target, _ in targets:
        assert "://" in target or (folder / target).exists(), target


def test_every_document_is_tried():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()
    results = {name for name in listed if name.startswith("bench/results/")}  # written by programs
    assert {*listed} - results - {*DOCUMENTS} <= {"CHANGELOG.md"}


def test_the_landing_page_is_short():
    assert len(TEXT.splitlines()) <= 250


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_left_to_fill_in(name):
    assert not re.search(r"@\w+@", TEXTS[name]) and os.fspath(Path.home()) not in TEXTS[name]


def test_the_files_that_the_design_names_are_there():
    """A path is one of the package, or of the repository."""
    paths = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", TEXTS["flexpie_mpi/README.md"])
    assert len(paths) > 30
    for path in (path for path in paths if "NAME" not in path):
        assert (REPOSITORY / "flexpie_mpi" / path).exists() or (REPOSITORY / path).exists(), path
