"""The documentation says what the code does."""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from nanohost.cli.command_catalogue import CATALOGUE_PATH as CATALOGUE
from nanohost.cli.command_catalogue import render_catalogue
from nanohost.commands.registry import commands
from nanohost.commands.status import SECTIONS

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def load_reference() -> ModuleType:
    loader = SourceFileLoader("reference", str(ROOT / "scripts" / "reference"))
    spec = spec_from_loader("reference", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse prints help in another form from 3.13 on")
@pytest.mark.parametrize("name", ["settings.md", "commands.md", "resources.md", "log-events.md"])
def test_the_reference_is_up_to_date(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == load_reference().PAGES[name](), "run make docs"


def test_the_tree_of_the_architecture_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert written == load_reference().architecture_page(), "run make docs"


def test_each_file_named_on_the_architecture_page_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+\.py)`", page)
    roots = (ROOT / "src" / "nanohost", ROOT)
    assert len(named) > 40
    assert [name for name in named if not any((root / name).is_file() for root in roots)] == []


def test_each_package_and_module_is_in_one_layer_of_the_architecture_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = page.split("## Layers")[1].splitlines()
    layered = [name for row in rows if row.startswith("| ") for name in re.findall(r"`([a-z_.]+)`", row)]
    source = ROOT / "src" / "nanohost"
    packages = {path.parent.name for path in source.glob("*/__init__.py")} - {"testing"}
    modules = {path.name for path in source.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert sorted(layered) == sorted({"nanohost_protocol", *packages, *modules})


def test_the_catalogue_of_the_command_line_is_up_to_date() -> None:
    assert Path(CATALOGUE).read_text(encoding="utf-8") == render_catalogue(), "run scripts/reference"


@pytest.mark.parametrize(
    "page",
    sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "whatsapp_bridge" / "README.md"]),
    ids=lambda page: page.name,
)
def test_links_have_existing_targets(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.behaviour("OP-01")
def test_every_status_section_has_advice_on_a_page() -> None:
    page = (ROOT / "docs" / "how-to" / "when-status-shows.md").read_text(encoding="utf-8")
    shown = {section.title for section in SECTIONS}
    assert [title for title in sorted(shown) if f"| {title.partition(' in the last')[0]} |" not in page] == []


HINTED = re.compile(r"""hint=f?["'][^"'\n]*?\bnanohost ([a-z][a-z-]*)(?: ([a-z]+))?""")


@pytest.mark.behaviour("OP-05")
def test_every_command_suggested_by_an_error_exists() -> None:
    words = {"run", "chat"} | {word for name in commands() for word in (name, name.partition(" ")[0])}
    told = {
        (first, second) for path in (ROOT / "src").rglob("*.py") for first, second in HINTED.findall(path.read_text())
    }
    assert told
    assert [pair for pair in told if pair[0] not in words] == []
    assert [pair for pair in told if pair[0] not in {"run", "chat"} and not _is_command(*pair, words)] == []


def _is_command(first: str, second: str, words: set[str]) -> bool:
    return first in commands() or f"{first} {second}" in words or not second


NAMED_TEST = re.compile(r"`((?:tests|src)/[a-z_/]+\.py)?::(\w+)`")


def test_each_test_named_on_the_security_page_exists() -> None:
    file, missing = "", []
    for named, test in NAMED_TEST.findall((ROOT / "docs" / "security.md").read_text(encoding="utf-8")):
        file = named or file  # a name alone is of the file before it
        if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8"):
            missing.append(f"{file}::{test}")
    assert missing == []


SET_UP = ("channels create", "nanohost run", "nanohost pair")
"""In the order that works: each command needs the ones before it."""


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "channels").glob("*.md")), ids=lambda page: page.stem)
def test_a_channels_page_lists_the_commands_in_the_order_that_works(page: Path) -> None:
    steps = page.read_text(encoding="utf-8").split("## From nothing to the first message\n")[1].split("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", steps, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    first = [steps.index(words) for words in SET_UP]
    assert first == sorted(first)
    for table in re.findall(r"```toml\n(.*?)```", steps, re.DOTALL):
        assert "env:" not in table
        assert steps.index(table) > first[0], "the command writes it"
