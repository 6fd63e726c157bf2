"""What the README and the docs say is tried: their commands, their code, their tables and their links."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from perlsim.readers import FORMATS
from perlsim.store import TAGS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
# Numbers of the README's commands and what they are for the test.
SMALLER = {
    "--vmap 4096": "--vmap 16",
    "-n 200": "-n 1",
    "eval --store stores/logs": "eval --store stores/synthetic",  # the log is too short to score
    "constant_velocity,idm_route,pdm_closed": "constant_velocity,idm_route --scenes 1",
    "idm_route,pdm_closed": "idm_route,constant_velocity",
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def module_at(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its two head lines."""
    table = re.search(rf"^#+ {heading}\n.*?^(\|.*?)\n(?!\|)", text, re.DOTALL | re.MULTILINE)
    assert table is not None, f"no table under {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()[2:]]


def test_the_commands_of_the_readme_do_what_it_says(tmp_path):
    files = module_at(ROOT / "tests" / "perlsim" / "readers" / "waymo_files.py")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "scene.json").write_text(json.dumps(files.gpudrive_document()))
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("perlsim ")]
    assert {line.split()[1] for line in commands} == {
        "import",
        "info",
        "generate",
        "rollout",
        "eval",
        "view",
        "score",
    }
    scores = module_at(ROOT / "tests" / "perlsim" / "test_score_command.py")
    scores.result(tmp_path / "results" / "route.json", "1")
    for line in commands:
        for number, small in SMALLER.items():
            line = line.replace(number, small)
        command = [sys.executable, "-m", "perlsim.cli", *shlex.split(line)[1:]]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    report = json.loads((tmp_path / "rollout.json").read_text())
    assert {"scene_steps_per_s", "agent_steps_per_s", "outcomes"} <= report.keys()


def test_the_python_example_of_the_readme_runs(tmp_path):
    # The second block goes on where the first ends.
    example = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"reward -?[\d.]+ collisions [\d.]+\nPDMS [\d.]+ off the road [\d.]+\n", done.stdout)


def test_the_agent_model_of_the_docs_is_one():
    import jax.numpy as jnp

    from perlsim.bank import VX, VY, X

    (example,) = blocks("python", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
    names = {}
    imports = (
        "import jax",
        "from dataclasses import dataclass",
        "from typing import ClassVar",
        "from perlsim.bank import VX, VY",
    )
    exec("\n".join((*imports, example)), names)
    _, agents = names["Standing"]().act((), None, SimpleNamespace(agents=jnp.ones((8, 3))), None, None)
    assert (agents[VX] == 0).all() and (agents[VY] == 0).all() and (agents[X] == 1).all()


def test_the_table_of_formats_is_that_of_the_registry():
    registered = [[f"`{entry.name}`", entry.title, entry.tested_on] for entry in FORMATS.values()]
    assert rows(README, "Formats") == registered


def test_every_format_is_described_with_what_it_is_tested_on():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    described, tested_on = {}, ""
    for level, title in re.findall(r"^(##+) (.*)$", text, re.MULTILINE):
        if level == "##":
            tested_on = title.removeprefix("Formats tested on ")
        elif name := re.search(r"\(`(\w+)`\)$", title):
            described[name[1]] = tested_on
    assert described == {name: entry.tested_on for name, entry in FORMATS.items()}


def test_the_command_line_reference_is_what_help_prints():
    reference = module_at(ROOT / "docs" / "make_reference.py")
    written = reference.OUT.read_text(encoding="utf-8")
    assert written == reference.render(), "run python docs/make_reference.py"


def test_the_tags_are_described():
    described = rows((ROOT / "docs" / "concepts.md").read_text(encoding="utf-8"), "Tags")
    assert described == [[f"`{tag}`", meaning] for tag, meaning in TAGS.items()]


def test_the_outcomes_are_described():
    from perlsim.sim.types import Event

    described = rows((ROOT / "docs" / "concepts.md").read_text(encoding="utf-8"), "Outcomes")
    assert {row[0].strip("`") for row in described} == {str(event.name) for event in Event}


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS], ids=lambda path: path.name
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS], ids=lambda path: path.name)
def test_modules_named_in_the_docs_exist(path):
    for name in set(re.findall(r"`(perlsim(?:\.\w+)+)`", path.read_text(encoding="utf-8"))):
        module, _, attribute = name.rpartition(".")
        found = importlib.util.find_spec(module) is not None and importlib.import_module(module)
        is_module = hasattr(found, "__path__") and importlib.util.find_spec(name) is not None
        assert is_module or hasattr(found, attribute), name
