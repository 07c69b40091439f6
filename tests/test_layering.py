"""The shape of the sources: which room may import which, who owns a package, how large things may be.

The rooms are those of the table in flexpie_mpi/README.md. A new dependency gets a place in `OWNERS`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.launch import LIMIT_S

PACKAGE = Path(__file__).parents[1] / "flexpie_mpi"

TABLE = (PACKAGE / "README.md").read_text(encoding="utf-8")
LINES = [(int(row), room) for row, room in re.findall(r"^\| (\d+) \| `(\w+)` \|", TABLE, re.MULTILINE)]
ROWS = tuple(tuple(room for row, room in LINES if row == wanted) for wanted in sorted({row for row, _ in LINES}))
"""A module imports from its own room and from the rows above it."""

OWNERS = {
    "numpy": (("files", "placement"), *ROWS[2:]),  # above, regions and shapes are plain ints
    "onnx": ("model/",),
    "google": ("model/",),  # protobuf, which onnx brings: the errors of damaged model files
    "onnxruntime": (
        "model/session.py",
        "model/preoptimise.py",
        "runtime/cpu.py",
        "runtime/ort.py",
        "runtime/whole_file.py",
    ),
    "mpi4py": ("runtime/mpi.py", "__main__.py"),
    "lightgbm": ("cost/gbdt.py",),
    "h5py": ("files/container.py", "files/hdf5.py", "files/stackwriter.py", "cost/traces.py"),
    "PIL": ("files/images.py",),
    "tokenizers": ("files/tokenizer.py",),
    "rich": ("report/", "commands/"),
    "matplotlib": ("report/",),
    "tomllib": ("core/document.py",),  # of 3.11 and later; tomli is the same
    "tomli": ("core/document.py",),
}
"""The places that may import a package: rows, rooms, or modules."""

LATE = {
    "commands/generate.py": ("files.tokenizer",),
    "commands/infer.py": ("commands.infer_files", "files.requests", "session.planning", "session.streaming"),
    "commands/infer_terms.py": ("files.requests",),
    "commands/infer_files.py": ("report",),
    "commands/options.py": ("model",),
    "commands/output.py": ("report.tables",),
    "commands/report.py": ("report.figure", "report.page", "report.planpicture"),
    "session/choosing.py": ("measure.race", "measure.shares", "session.cluster", "session.planning"),
    "session/inference.py": ("files.sources",),
    "session/inputs.py": ("cost.fit",),
    "session/ranks.py": ("planner.rules",),
    "session/room.py": ("planner",),
    "session/streaming.py": (
        "files",
        "measure.compare",
        "session.inputs",
        "simulate.occupancy",
    ),
    "session/world.py": ("cost.prior", "session.planning", "simulate.occupancy"),
    "session/timing.py": ("measure.compare", "measure.observed"),
}
"""What a module may import inside of a function: rooms or modules that are large, or need a package that may be
missing, and that few starts of the program, or the root alone, come to need. All other imports stand at the top."""

STARTERS = ("__init__.py", "__main__.py", "commands/__init__.py", "model/__init__.py")
"""Modules that may choose at run time what to import: they start the program, or offer it or a room."""

MAX_LINES, MAX_FUNCTION = 400, 60
VAGUE = {"util", "utils", "utilities", "helper", "helpers", "misc", "common", "tools"}

LIGHT = ("core", "ops", "planner", "lower", "pipeline", "simulate", "placement")
"""Rooms that must work on a machine without the heavy packages."""
HEAVY = ("onnx", "mpi4py", "onnxruntime", "lightgbm", "h5py")


@dataclass(frozen=True)
class Import:
    """One imported module, by its full dotted name, and where the statement is."""

    target: str
    node: ast.stmt


@dataclass(frozen=True)
class Module:
    """One source file of a package."""

    path: Path
    root: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @property
    def place(self) -> str:
        """Path inside the package, as in `OWNERS`."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def name(self) -> str:
        parts = (self.root.name, *self.path.relative_to(self.root).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return self.place.split("/")[0].removesuffix(".py")

    def problem(self, node: ast.AST | int, sentence: str) -> str:
        line = node if isinstance(node, int) else node.lineno
        return f"{self.root.name}/{self.place}:{line}: {sentence}"


@dataclass(frozen=True)
class Sources:
    """All modules of a package, and what they import."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Module]:
        found = [Module(path, self.root) for path in sorted(self.root.rglob("*.py"))]
        return {module.name: module for module in found}

    def imports(self, module: Module) -> Iterator[Import]:
        """Every import of a module, wherever it stands; of its own package down to the module that is meant."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                for alias in node.names:
                    member = f"{base}.{alias.name}"
                    yield Import(member if member in self.modules else base, node)

    def _base(self, module: Module, node: ast.ImportFrom) -> str:
        """The module that ``from X import`` names, dots resolved."""
        if not node.level:
            return node.module or ""
        parts = module.name.split(".")
        dropped = node.level - (module.path.name == "__init__.py")
        parts = parts[: len(parts) - dropped]
        return ".".join([*parts, node.module] if node.module else parts)


# Rules: each takes the sources and yields one sentence per violation


def rooms_have_a_row(sources: Sources) -> Iterator[str]:
    known = {room for row in ROWS for room in row}
    for module in sources.modules.values():
        if module.room not in known:
            yield module.problem(1, f"room '{module.room}' has no row in tests/test_layering.py")


def imports_go_up_the_table(sources: Sources) -> Iterator[str]:
    row_of = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
    for module in sources.modules.values():
        for found in sources.imports(module):
            target = sources.modules.get(found.target)
            if target is None or target.room == module.room or not {target.room, module.room} <= row_of.keys():
                continue
            if row_of[target.room] >= row_of[module.room]:
                yield module.problem(
                    found.node,
                    f"'{module.room}' (row {row_of[module.room]}) imports '{target.room}' (row {row_of[target.room]})",
                )


def packages_stay_with_their_owners(sources: Sources) -> Iterator[str]:
    for module in sources.modules.values():
        for found in sources.imports(module):
            top = found.target.split(".")[0]
            if top in sys.stdlib_module_names or top == sources.root.name:
                continue
            if top not in OWNERS:
                yield module.problem(found.node, f"imports '{top}', which is no dependency of this package")
            elif not any(_covers(owner, module) for owner in OWNERS[top]):
                yield module.problem(found.node, f"imports '{top}', which belongs to {_places(OWNERS[top])}")


def _covers(owner: str | tuple[str, ...], module: Module) -> bool:
    if isinstance(owner, tuple):
        return module.room in owner
    return module.place.startswith(owner) if owner.endswith("/") else module.place == owner


def _places(owners: tuple) -> str:
    return ", ".join(owner if isinstance(owner, str) else "/".join(owner) for owner in owners)


def imports_stand_at_the_top(sources: Sources) -> Iterator[str]:
    """But for what `LATE` allows a module to import when it comes to need it."""
    for module in sources.modules.values():
        functions = [
            node for node in ast.walk(module.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        inside = {node for function in functions for node in ast.walk(function)}
        late = tuple(f"{sources.root.name}.{target}" for target in LATE.get(module.place, ()))
        for item in sources.imports(module):
            if item.node in inside and not any(f"{item.target}.".startswith(f"{target}.") for target in late):
                yield module.problem(item.node, f"import of '{item.target}' inside a function")


def late_imports_are_late(sources: Sources) -> Iterator[str]:
    """What `LATE` names is imported by that module inside of a function only, or the table says too much."""
    for module in sources.modules.values():
        for target in LATE.get(module.place, ()):
            name = f"{sources.root.name}.{target}"
            nodes = [item.node for item in sources.imports(module) if f"{item.target}.".startswith(f"{name}.")]
            typing = [node for node in module.tree.body if isinstance(node, ast.If)]
            top = {*module.tree.body}
            if any(node in top for node in nodes):
                yield module.problem(next(node for node in nodes if node in top), f"'{target}' is imported at the top")
            elif not any(node not in {child for part in typing for child in part.body} for node in nodes):
                yield module.problem(1, f"LATE allows it '{target}', which it does not import")


def imports_are_visible(sources: Sources) -> Iterator[str]:
    """Only what starts the program, or offers it, may choose at run time what to import."""
    for module in sources.modules.values():
        if module.place in STARTERS:
            continue
        for node in ast.walk(module.tree):
            name = getattr(node, "attr", getattr(node, "id", "")) if isinstance(node, (ast.Name, ast.Attribute)) else ""
            if name in ("__import__", "import_module"):
                yield module.problem(node, f"'{name}' hides an import from this test")


def no_cycles(sources: Sources) -> Iterator[str]:
    graph = {
        name: {found.target for found in sources.imports(module) if found.target in sources.modules} - {name}
        for name, module in sources.modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]
        yield sources.modules[cycle[0]].problem(1, f"import cycle: {' <- '.join(cycle)}")


def names_say_something(sources: Sources) -> Iterator[str]:
    for module in sources.modules.values():
        for part in Path(module.place).with_suffix("").parts:
            if part.lstrip("_") in VAGUE:
                yield module.problem(1, f"the name '{part}' says nothing: a helper lives with the noun it serves")


def files_are_small(sources: Sources) -> Iterator[str]:
    for module in sources.modules.values():
        lines = len(module.path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            yield module.problem(lines, f"{lines} lines, over {MAX_LINES}: it holds two nouns")


def functions_are_small(sources: Sources) -> Iterator[str]:
    for module in sources.modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = _lines(node)
                if lines > MAX_FUNCTION:
                    yield module.problem(node, f"function '{node.name}' has {lines} lines, over {MAX_FUNCTION}")


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Length of a function, its docstring not counted."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - docstring


def public_names_are_documented(sources: Sources) -> Iterator[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for module in sources.modules.values():
        if not ast.get_docstring(module.tree):
            yield module.problem(1, "module without a docstring")
        for node in module.tree.body:
            if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node):
                yield module.problem(node, f"'{node.name}' without a docstring")


Rule = Callable[[Sources], Iterator[str]]

RULES: tuple[Rule, ...] = (
    rooms_have_a_row,
    imports_go_up_the_table,
    packages_stay_with_their_owners,
    imports_stand_at_the_top,
    late_imports_are_late,
    imports_are_visible,
    no_cycles,
    names_say_something,
    files_are_small,
    functions_are_small,
    public_names_are_documented,
)

by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources(PACKAGE)


@by_rule
def test_the_package(rule: Rule, sources: Sources) -> None:
    found = sorted(rule(sources))
    assert not found, "\n" + "\n".join(found)


# The checker itself: it is silent on a good tree and sees each kind of violation

GOOD = {
    "__init__.py": '"""The package."""\nfrom .ops import rule\n',
    "__main__.py": '"""The program."""\nimport mpi4py\n\nfrom .commands import infer\n',
    "core/errors.py": '"""Errors."""\n\n\nclass Wrong(Exception):\n    """Wrong."""\n',
    "core/region.py": '"""Boxes."""\nimport os.path\n',
    "ops/__init__.py": '"""Operators."""\nfrom . import conv\nfrom .conv import rule\n',
    "testbed/__init__.py": '"""Boards."""\n',
    "ops/conv.py": '"""Convolution."""\nfrom ..core.errors import Wrong\n\n\ndef rule():\n    """A rule."""\n',
    "model/zoo/vgg.py": '"""A network."""\nimport onnx.helper\nimport numpy as np\nfrom ...ops.conv import rule\n',
    "runtime/ort.py": '"""Kernels."""\nfrom onnxruntime import InferenceSession\n',
    "report/run.py": '"""Tables."""\nimport rich\n',
    "commands/output.py": '"""Words."""\n\n\ndef _publish():\n    from ..report.tables import text_of\n',
    "report/tables.py": '"""Tables."""\n',
    "commands/__init__.py": '"""Verbs."""\nfrom importlib import import_module\nimport rich\n',
}

PLANTED = (
    (rooms_have_a_row, "attic.py", '"""Old things."""\n', 1),
    (imports_go_up_the_table, "core/errors.py", '"""E."""\n\nfrom ..ops import conv\n', 3),
    (imports_go_up_the_table, "core/errors.py", '"""E."""\nimport flexpie_mpi.ops.conv\n', 2),
    (imports_go_up_the_table, "ops/conv.py", '"""E."""\nfrom ..testbed import Region\n', 2),
    (imports_go_up_the_table, "model/zoo/vgg.py", '"""V."""\nfrom ...commands import output\n', 2),
    (imports_go_up_the_table, "ops/conv.py", '"""C."""\nfrom flexpie_mpi import rule\n', 2),
    (packages_stay_with_their_owners, "ops/conv.py", '"""C."""\n\n\nimport numpy as np\n', 4),
    (packages_stay_with_their_owners, "runtime/kernels.py", '"""K."""\nfrom onnx import helper\n', 2),
    (packages_stay_with_their_owners, "runtime/other.py", '"""O."""\nimport onnxruntime.capi\n', 2),
    (packages_stay_with_their_owners, "model/load.py", '"""L."""\nimport torch\n', 2),
    (imports_stand_at_the_top, "core/region.py", '"""B."""\n\n\ndef _box():\n    if True:\n        import os\n', 6),
    (imports_stand_at_the_top, "ops/conv.py", '"""C."""\n\n\ndef _box():\n    from ..testbed import Board\n', 5),
    (
        imports_stand_at_the_top,
        "commands/output.py",
        '"""W."""\nfrom ..report import tables\n\n\ndef _p():\n    import rich\n',
        6,
    ),
    (late_imports_are_late, "commands/output.py", '"""W."""\nfrom ..report import tables\n', 2),
    (late_imports_are_late, "commands/output.py", '"""W."""\n', 1),
    (imports_are_visible, "commands/infer.py", '"""V."""\nimport importlib\n\nimportlib.import_module("rich")\n', 4),
    (imports_are_visible, "core/region.py", '"""B."""\nimport importlib\n\nimportlib.import_module("onnx")\n', 4),
    (imports_are_visible, "core/region.py", '"""B."""\n__import__("onnx")\n', 2),
    (no_cycles, "ops/conv.py", '"""C."""\nfrom . import rule\n', 1),
    (names_say_something, "ops/_utils.py", '"""Things."""\n', 1),
    (names_say_something, "helpers/box.py", '"""Things."""\n', 1),
    (files_are_small, "core/region.py", '"""B."""\n' + "\n" * 400, 401),
    (functions_are_small, "core/region.py", '"""B."""\n\n\nclass _A:\n    def f(self):\n' + "        x = 1\n" * 60, 5),
    (public_names_are_documented, "core/region.py", "import os\n", 1),
    (public_names_are_documented, "core/region.py", '"""B."""\n\n\ndef box():\n    pass\n', 4),
    (public_names_are_documented, "core/region.py", '"""B."""\n\n\nclass Box:\n    x = 1\n', 4),
)


def planted(folder: Path, changes: dict[str, str]) -> Sources:
    """A package written into `folder`."""
    root = folder / "flexpie_mpi"
    for place, text in (GOOD | changes).items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    return Sources(root)


@by_rule
def test_a_good_tree_passes(rule: Rule, tmp_path: Path) -> None:
    assert list(rule(planted(tmp_path, {}))) == []


@pytest.mark.parametrize(("rule", "place", "text", "line"), PLANTED)
def test_a_planted_violation_is_seen(rule: Rule, place: str, text: str, line: int, tmp_path: Path) -> None:
    found = list(rule(planted(tmp_path, {place: text})))
    assert len(found) == 1
    if rule is not no_cycles:
        assert found[0].startswith(f"flexpie_mpi/{place}:{line}: ")


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, *_ in PLANTED} == set(RULES)


def test_a_long_docstring_does_not_make_a_function_long(tmp_path: Path) -> None:
    text = '"""B."""\n\n\ndef box():\n    """Box.\n' + "\n" * 80 + '    """\n    return 1\n'
    assert list(functions_are_small(planted(tmp_path, {"region.py": text}))) == []


# What must work without the heavy packages does


def test_planning_needs_no_heavy_package(sources: Sources) -> None:
    modules = [name for name, module in sources.modules.items() if module.room in LIGHT]
    program = (
        "import sys, importlib\n"
        f"for name in {HEAVY!r}:\n    sys.modules[name] = None  # importing it raises ModuleNotFoundError\n"
        f"for name in {modules!r}:\n    importlib.import_module(name)\n"
        f"print(sorted(set({HEAVY!r}) & {{name.split('.')[0] for name in sys.modules if sys.modules[name]}}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
