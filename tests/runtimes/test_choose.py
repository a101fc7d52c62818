"""Which runtime a machine gets, and when an agent without a sandbox is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.errors import RuntimeUnavailable, SettingsError, SpawnError
from nanohost.extensions.providers import ProviderFile, find_provider
from nanohost.runtimes.choose import check_installed, check_unsandboxed, choose_runtime, first_available
from nanohost.runtimes.process import ProcessRuntime
from nanohost.runtimes.runtime_api import Isolation, Runtime

NO_INSTALL = Path("/no/install")

Way = Callable[[], Awaitable[Runtime]]


def quiet(_line: str) -> None:
    """Ignore progress."""


def works(install: str) -> Way:
    async def way() -> Runtime:
        return ProcessRuntime(install=install)

    return way


def failing_runtime(sentence: str) -> Way:
    async def way() -> Runtime:
        raise RuntimeUnavailable(sentence, hint="install it")

    return way


async def test_the_first_runtime_that_works_is_chosen() -> None:
    chosen = await first_available({"docker": works("a"), "bubblewrap": works("b"), "process": works("c")})
    assert isinstance(chosen, ProcessRuntime)
    assert chosen.install == "a"


async def test_every_fallback_logs_one_warning_with_the_reason_and_a_hint() -> None:
    ways = {
        "docker": failing_runtime("no engine"),
        "bubblewrap": failing_runtime("no namespaces"),
        "process": works("c"),
    }
    with capture_logs() as lines:
        await first_available(ways)
    assert [(line["log_level"], line["runtime"], line["why"], line["hint"]) for line in lines] == [
        ("warning", "docker", "no engine", "install it"),
        ("warning", "bubblewrap", "no namespaces", "install it"),
    ]


async def test_when_nothing_works_the_last_reason_is_raised() -> None:
    with capture_logs(), pytest.raises(RuntimeUnavailable, match="not Linux"):
        await first_available({"docker": failing_runtime("no engine"), "process": failing_runtime("not Linux")})


async def test_a_runtime_requested_by_name_is_used_or_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(RuntimeUnavailable, match="does not answer") as caught:
        await choose_runtime(requested="docker", root=NO_INSTALL, install="i", base_image=None, progress=quiet)
    assert "start Docker" in caught.value.hint


async def test_an_unknown_runtime_is_an_invalid_setting() -> None:
    with pytest.raises(SettingsError, match="podman"):
        await choose_runtime(requested="podman", root=NO_INSTALL, install="i", base_image=None, progress=quiet)


def shipped(name: str) -> ProviderFile:
    return find_provider(NO_INSTALL, name)


def test_a_real_agent_with_tools_is_not_started_unsandboxed() -> None:
    with pytest.raises(SpawnError) as caught:
        check_unsandboxed(Isolation.NONE, shipped("claude"), "all", allow_unsandboxed=False)
    assert "[host] allow_unsandboxed = true" in caught.value.hint
    assert '[agent] tools = "none"' in caught.value.hint


@pytest.mark.parametrize("tools", ["all", "none"])
def test_a_provider_without_a_sandbox_declaration_is_not_started_unsandboxed(tools: str) -> None:
    """Whether it honours `tools` is not known either, so disabling tools does not help."""
    new = ProviderFile(name="new", path=Path("new.py"))
    with pytest.raises(SpawnError, match="'new'") as caught:
        check_unsandboxed(Isolation.NONE, new, tools, allow_unsandboxed=False)
    assert "tools =" not in caught.value.hint
    check_unsandboxed(Isolation.SANDBOX, new, tools, allow_unsandboxed=False)
    check_unsandboxed(Isolation.NONE, new, tools, allow_unsandboxed=True)


@pytest.mark.parametrize(
    ("isolation", "provider", "tools", "allowed"),
    [
        (Isolation.CONTAINER, "claude", "all", False),
        (Isolation.SANDBOX, "claude", "all", False),
        (Isolation.NONE, "demo", "all", False),
        (Isolation.NONE, "claude", "none", False),
        (Isolation.NONE, "claude", "all", True),
    ],
)
def test_a_sandbox_or_no_tools_or_the_operators_permission_is_enough(
    isolation: Isolation, provider: str, tools: str, allowed: bool
) -> None:
    check_unsandboxed(isolation, shipped(provider), tools, allowed)


def test_the_docker_client_is_imported_only_where_docker_is_tried() -> None:
    code = "import sys, nanohost.app, nanohost.provisioning; sys.exit('docker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("isolation", [Isolation.NONE, Isolation.SANDBOX])
def test_a_provider_is_not_started_in_a_python_without_its_libraries(isolation: Isolation) -> None:
    check_installed(isolation, shipped("claude"))
    check_installed(isolation, shipped("demo"))
    with pytest.raises(SpawnError, match="'claude' needs no-such-package, which is not installed beside") as caught:
        check_installed(isolation, replace(shipped("claude"), dependencies=("pydantic>=2", "no-such-package")))
    assert "make chat" in caught.value.hint
    assert "no-such-package" in caught.value.hint


def test_an_agent_in_a_container_needs_no_libraries_on_the_host() -> None:
    check_installed(Isolation.CONTAINER, replace(shipped("claude"), dependencies=("no-such-package",)))
