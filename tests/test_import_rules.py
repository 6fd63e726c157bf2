"""Who may import whom (a package is imported only by those to its right in `ORDER`)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("perlsim", "world_model", "planner", "vla_bridge")
# Where the command line puts the packages together, inside the handlers of its commands.
COMMAND_LINE = "perlsim/cli.py"
# Parts of perlsim that handle logs on the host, in many processes: they start fast and need no device.
HOST_ONLY = ("readers", "store", "ingest", "worlds", "info")
# Rooms inside them that simulate.
ON_DEVICE = ("worlds/actors", "worlds/suite")


@dataclass(frozen=True)
class Import:
    """An import statement: what it names, and whether it stands inside a function."""

    file: str
    line: int
    module: str
    deferred: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """All imports of a module, those under ``if TYPE_CHECKING`` and in functions too."""

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, deferred)
        elif isinstance(node, ast.ImportFrom):
            folder = file.split("/")[: -node.level] if node.level else []
            name = ".".join([*folder, *([node.module] if node.module else [])])
            yield Import(file, node.lineno, name, deferred)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield Import(file, node.lineno, first.value, deferred)
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(source), False)


def all_imports() -> list[Import]:
    return [
        found
        for package in ORDER
        for path in sorted((ROOT / package).rglob("*.py"))
        for found in imports_of(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]


def breaks_order(found: Import) -> bool:
    own = found.file.partition("/")[0]
    if found.package not in ORDER or ORDER.index(found.package) <= ORDER.index(own):
        return False
    return not (found.file == COMMAND_LINE and found.deferred)


def is_torch_outside_its_room(found: Import) -> bool:
    return found.package in ("torch", "transformers") and not found.file.startswith("vla_bridge/")


def test_no_package_imports_one_that_comes_after_it():
    assert [str(found) for found in all_imports() if breaks_order(found)] == []


def test_torch_and_transformers_are_imported_in_the_vla_bridge_only():
    assert [str(found) for found in all_imports() if is_torch_outside_its_room(found)] == []


@pytest.mark.parametrize(
    ("file", "source", "is_broken"),
    [
        ("perlsim/sim/core.py", "import planner", True),
        ("perlsim/sim/core.py", "def f():\n    from world_model.net import x", True),
        ("perlsim/sim/core.py", "def f():\n    importlib.import_module('planner.heads')", True),
        ("perlsim/cli.py", "import planner", True),
        ("perlsim/cli.py", "class A:\n    import planner", True),
        ("perlsim/cli.py", "class A:\n    def run(self):\n        import planner", False),
        ("world_model/net.py", "from planner.heads import x", True),
        ("world_model/net.py", "from perlsim.bank import x", False),
        ("planner/heads.py", "import vla_bridge", True),
        ("vla_bridge/distil.py", "import planner, world_model, perlsim", False),
        ("perlsim/sim/core.py", "from . import planner", False),
    ],
)
def test_the_order_of_packages_is_read_from_imports(file, source, is_broken):
    assert any(breaks_order(found) for found in imports_of(source, file)) is is_broken


@pytest.mark.parametrize("source", ["import torch.nn", "def f():\n    from transformers import x"])
def test_torch_is_noticed_wherever_it_is_imported(source):
    assert all(map(is_torch_outside_its_room, imports_of(source, "planner/heads.py")))
    assert not any(map(is_torch_outside_its_room, imports_of(source, "vla_bridge/distil.py")))


def loaded_after(statements: str) -> set[str]:
    """Which of the heavy libraries a fresh process has loaded after the statements."""
    heavy = "{name for name in ('jax', 'jaxlib', 'flax', 'torch', 'transformers') if name in sys.modules}"
    code = f"import sys\n{statements}\nprint('loaded:', *{heavy})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(result.stdout.splitlines()[-1].split()[1:])


def test_importing_perlsim_loads_neither_jax_nor_torch():
    assert loaded_after("import perlsim") == set()
    assert "jax" in loaded_after("import perlsim.bank")


def test_help_loads_neither_jax_nor_torch():
    for command in ([], ["import"], ["generate"], ["info"], ["rollout"]):
        statements = (
            "from perlsim.cli import main\n"
            f"try:\n    main({[*command, '--help']!r})\nexcept SystemExit as end:\n    assert not end.code"
        )
        assert loaded_after(statements) == set(), command


def test_reading_and_storing_logs_loads_neither_jax_nor_torch():
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for room in HOST_ONLY
        for path in sorted((ROOT / "perlsim" / room).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / "perlsim" / simulating) for simulating in ON_DEVICE)
    ]
    assert {"perlsim.readers.womd", "perlsim.store"} <= set(modules)
    assert loaded_after("\n".join(f"import {name}" for name in modules)) == set()
