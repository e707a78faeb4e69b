"""The documents are in step with the code."""

import ast
import re
from itertools import chain

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
READERS = {"env_str", "env_bool", "env_float", "env_int", "env_list"}


def variables_read():
    """Return the environment variables that config/ reads through its typed readers, and those read elsewhere."""
    nodes = [node for path in (ROOT / "config").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    reads = [
        node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") in READERS and node.args
    ]
    plain = [
        re.findall(r'os\.environ\.get\("(\w+)"', path.read_text()) for path in (ROOT / "accelerator").rglob("*.py")
    ]
    return {node.args[0].value for node in reads if isinstance(node.args[0], ast.Constant)} | set(chain(*plain))


def variables_documented():
    table = README.split("## Settings")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_every_setting_that_is_read_is_in_the_readme_and_no_other():
    assert variables_read() == variables_documented()


def test_no_room_of_django_but_config_reads_the_environment():
    for room in ("fleet", "scenarios", "api", "dashboard"):
        for path in (ROOT / room).rglob("*.py"):
            assert not re.search(r"os\.environ|os\.getenv", path.read_text()), path


def test_the_two_commands_come_first():
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_every_link_to_a_file_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_make_command_of_the_readme_exists():
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", README))
    assert named <= targets
    assert targets - {"help"} <= named


def test_every_management_command_of_the_readme_exists():
    commands = {path.stem for path in ROOT.glob("*/management/commands/*.py")} | {"createsuperuser", "migrate"}
    assert set(re.findall(r"manage\.py ([a-z_]+)", README)) <= commands


# --- docs/nomenclature.md is the law of names -------------------------------------------------------------------------
ROOMS = ("accelerator", "fleet", "scenarios", "api", "config")  # from below: the words of a room hold in those above it
UNIT_AT_THE_END = re.compile(
    r"_(s|w|va|wh|v|a|degc|mm|kg|u|byte|flop|tok|tok2|usd|kgco2e|ratio|on|at|day|days|months|per_tok|per_tok2)$"
)


def names_in_the_law(room):
    text = (ROOT / "docs" / "nomenclature.md").read_text()
    section = re.search(rf"^## {room}/.*?\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]
    cells = re.findall(r"^\| ([\w, ]+) \|", section, re.MULTILINE)
    return {name for cell in cells for name in cell.split(", ")} - {"name"}


def fields_with_a_unit(room):
    """Return the fields of models and dataclasses (public classes) whose names end in a unit."""
    found = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for line in node.body:
                    is_field = isinstance(line, ast.AnnAssign) or (
                        isinstance(line, ast.Assign) and "models." in ast.unparse(line.value)
                    )
                    name = getattr(getattr(line, "target", None) or (is_field and line.targets[0]), "id", "")
                    if is_field and UNIT_AT_THE_END.search(name):
                        found[name] = f"{path.relative_to(ROOT)}: {node.name}"
    return found


@pytest.mark.parametrize("at", range(4), ids=ROOMS[:4])
def test_every_field_with_a_unit_is_in_the_nomenclature_of_its_room_or_of_one_below(at):
    known = set().union(*(names_in_the_law(room) for room in ROOMS[: at + 1]))
    fields = fields_with_a_unit(ROOMS[at])
    assert fields, "the search finds nothing: it is broken"
    assert {name: place for name, place in fields.items() if name not in known} == {}


def test_every_setting_with_a_unit_is_in_the_nomenclature():
    with_a_unit = {name for name in variables_read() if re.search(r"_(S|W|BYTE|TOK|RATIO|USD)$", name)}
    assert with_a_unit == names_in_the_law("config")


@pytest.mark.parametrize("room", ROOMS)
def test_the_nomenclature_names_nothing_that_is_gone(room):
    code = "\n".join(path.read_text() for path in (ROOT / room).rglob("*.py"))
    if room == "api":  # the answer of a capacity query is made one room below
        code += "\n".join(path.read_text() for path in (ROOT / "scenarios").rglob("*.py"))
    assert {name for name in names_in_the_law(room) if not re.search(rf"\b{name}\b", code)} == set()


def test_decisions_are_numbered_without_gaps():
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
