"""Providers as their headers declare them: found without importing them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from agent_runner import providers
from nanohost.errors import ExtensionError
from nanohost.extensions.providers import UnsandboxedPolicy, find_provider, provider_names, uses_gateway


def put(root: Path, name: str, *lines: str) -> Path:
    """A provider file that cannot be imported."""
    path = root / "providers" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    header = ["# /// script", *(f"# {line}" for line in lines), "# ///"] if lines else []
    path.write_text("\n".join([*header, "raise SystemExit"]))
    return path


OURS = ("[tool.nanohost]", 'kind = "provider"', "api = 1")


def test_host_and_runner_find_the_same_providers(tmp_path: Path) -> None:
    assert provider_names(tmp_path) == providers.provider_names() == ["claude", "demo", "scripted"]
    put(tmp_path, "parrot", *OURS)
    for name in ("_helper", "a.b", "Parrot", "9"):  # no module has such a name, or another system would mix it up
        put(tmp_path, name)
    assert provider_names(tmp_path) == ["claude", "demo", "parrot", "scripted"]


def test_each_shipped_provider_declares_whether_it_may_run_unsandboxed(tmp_path: Path) -> None:
    said = {name: find_provider(tmp_path, name).unsandboxed for name in provider_names(tmp_path)}
    assert said == {
        "claude": UnsandboxedPolicy.WITHOUT_TOOLS,
        "demo": UnsandboxedPolicy.ALWAYS,
        "scripted": UnsandboxedPolicy.ALWAYS,
    }


def test_only_claude_uses_the_configured_model(tmp_path: Path) -> None:
    assert [name for name in provider_names(tmp_path) if uses_gateway(tmp_path, name)] == ["claude"]
    assert not uses_gateway(tmp_path, "gone")


def test_a_provider_without_a_declaration_may_not_run_unsandboxed(tmp_path: Path) -> None:
    put(tmp_path, "parrot", "dependencies = ['seeds>=1']", *OURS)
    found = find_provider(tmp_path, "parrot")
    assert (found.unsandboxed, found.uses_gateway, found.dependencies) == (
        UnsandboxedPolicy.NEVER,
        False,
        ("seeds>=1",),
    )
    assert not found.can_run_unsandboxed("none")
    assert found.missing_dependencies() == ["seeds>=1"]


@pytest.mark.parametrize(
    ("lines", "sentence", "hint"),
    [
        ((), "has no provider header", "start the file with"),
        ((OURS[0], 'kind = "channel"', OURS[2]), "tool.nanohost.kind", 'write kind = "provider"'),
        ((*OURS, "unsandboxed = true"), "tool.nanohost.unsandboxed", 'write "never"'),
        ((*OURS, 'unsandboxed = "yes"'), "tool.nanohost.unsandboxed", 'write "never"'),
        ((*OURS, 'name = "x"'), "tool.nanohost.name", "remove it"),
        ((*OURS[:2], "api = 2"), "written for provider API 2; this nanohost speaks 1", "update nanohost"),
    ],
)
def test_a_mistake_in_the_header_is_reported_with_the_file_and_the_remedy(
    tmp_path: Path, lines: tuple[str, ...], sentence: str, hint: str
) -> None:
    path = put(tmp_path, "parrot", *lines)
    with pytest.raises(ExtensionError) as raised:
        find_provider(tmp_path, "parrot")
    assert str(raised.value).startswith(str(path))
    assert re.search(re.escape(sentence), str(raised.value))
    assert hint in raised.value.hint


def test_an_unknown_provider_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ExtensionError, match="there is no provider 'parrot'") as raised:
        find_provider(tmp_path, "parrot")
    assert raised.value.hint == f"there is claude, demo, scripted; another one is a file in {tmp_path / 'providers'}"


def test_an_installed_provider_cannot_take_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    path = put(tmp_path, "demo", *OURS)
    with pytest.raises(ExtensionError, match=f"the provider demo is in .* and {re.escape(str(path))}"):
        find_provider(tmp_path, "demo")


def test_dependencies_of_shipped_providers_are_dependencies_of_nanohost(tmp_path: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {one for name in provider_names(tmp_path) for one in find_provider(tmp_path, name).dependencies}
    assert needed
    assert needed <= set(project["dependencies"])
