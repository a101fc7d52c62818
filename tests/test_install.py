"""What `make chat` and `make setup` install: locked, each by its hash, and no more than is used."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from nanohost.config.settings import make_settings
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)


def script(name: str) -> ModuleType:
    loader = SourceFileLoader(name, str(ROOT / "scripts" / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in PIN.findall(text)}


def would_do(target: str, venv: Path) -> str:
    done = subprocess.run(
        ["make", "-n", target, f"VENV={venv}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled_timeout(HANG_TIMEOUT_S),
    )
    return done.stdout


def test_make_chat_installs_the_runtime_and_no_development_tools(tmp_path: Path) -> None:
    told = would_do("chat", tmp_path / "venv")
    assert "requirements/host.txt" in told
    assert "requirements/dev.txt" not in told


@pytest.mark.parametrize("is_on_path", [True, False])
def test_make_chat_explains_how_to_run_a_program_that_is_not_on_the_path(tmp_path: Path, is_on_path: bool) -> None:
    """A command named in a hint must be one that can be typed."""
    bin = tmp_path / "venv" / "bin"
    bin.mkdir(parents=True)
    for name in ("python", "nanohost"):
        (bin / name).write_text("#!/bin/sh\n")
        (bin / name).chmod(0o755)
    (tmp_path / "venv" / ".host").touch()
    path = f"{bin}:/usr/bin:/bin" if is_on_path else "/usr/bin:/bin"
    done = subprocess.run(
        ["make", "-s", "chat", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled_timeout(HANG_TIMEOUT_S),
    )
    said = f"Where nanohost is named below, type {bin}/nanohost, or once: . {bin}/activate\n"
    assert done.stdout == ("" if is_on_path else said)


def test_the_whatsapp_bridge_is_installed_for_development_and_not_for_make_chat(tmp_path: Path) -> None:
    assert "--no-deps" in would_do("setup", tmp_path / "venv")
    assert "--editable whatsapp_bridge" in would_do("setup", tmp_path / "venv")
    assert "--editable whatsapp_bridge" not in would_do("chat", tmp_path / "venv")


def test_make_chat_installs_nothing_where_everything_is_installed(tmp_path: Path) -> None:
    for stamp in (".installed", ".host"):
        (tmp_path / stamp).touch()
    assert "pip" not in would_do("chat", tmp_path)
    assert "scripts/install" not in would_do("setup", tmp_path)


@pytest.mark.parametrize("name", ["host", "agent", "build"])
def test_all_lock_files_pin_the_same_versions(name: str) -> None:
    everything = pins("dev")
    assert {package: version for package, version in pins(name).items() if everything.get(package) != version} == {}


def test_each_requirement_has_a_hash_and_no_file_names_an_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        hashed = re.findall(r"^[A-Za-z0-9][^\n]*==[^\n]*\\\n    --hash=", text, re.MULTILINE)
        assert len(PIN.findall(text)) == len(hashed), path.name
        assert "://" not in text, path.name


def test_the_host_has_all_its_dependencies_except_the_agents_sdk() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[>=<;\[ ]", one)[0].lower().replace(".", "-") for one in project["dependencies"]}
    assert wanted - set(pins("host")) == {"claude-agent-sdk"}
    assert {"claude-agent-sdk", "mypy", "pytest", "ruff", "hypothesis"} & set(pins("host")) == set()


def test_the_progress_of_an_install_is_read_from_the_output_of_pip() -> None:
    install = script("install")
    text = 'aiohttp==3 \\\n    --hash=x\nPy_Win32==1 ; sys_platform == "win32" \\\n    --hash=x\nhttpx==1\n'
    assert install.names(text) == {"aiohttp", "httpx"}
    said = [
        "Collecting aiohttp==3 (from -r x)\n",
        "  Downloading aiohttp-3.whl (1 MB)\n",
        "Requirement already satisfied: httpx==1 in /x\n",
        "Installing collected packages: aiohttp\n",
        "Successfully installed aiohttp-3\n",
    ]
    assert list(install.steps(said, 2)) == ["1 of 2: aiohttp", "2 of 2: httpx", "unpacking"]


def test_a_failed_install_prints_the_output_of_pip(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("not a requirement\n")  # nothing that an index could be asked for
    assert script("install").main(sys.executable, [str(wrong)]) != 0
    said = capfd.readouterr()
    assert said.out == "Installing 0 packages\n"
    assert "not a requirement" in said.err


@pytest.mark.parametrize(
    ("runtime", "provider", "engine", "wanted"),
    [
        ("auto", "claude", True, False),
        ("auto", "claude", False, True),
        ("auto", "demo", False, False),
        ("docker", "claude", False, False),
        ("bubblewrap", "claude", True, True),
        ("process", "claude", True, True),
    ],
)
def test_the_claude_program_is_installed_beside_the_host_only_where_no_image_has_it(
    monkeypatch: pytest.MonkeyPatch, runtime: str, provider: str, engine: bool, wanted: bool
) -> None:
    beside = script("agent_beside_host")
    monkeypatch.setattr(beside, "is_there", lambda: False)
    monkeypatch.setattr(beside, "_engine_answers", lambda: engine)
    settings = make_settings(host={"runtime": runtime, "provider": provider}, agent={"api_key": "k"})
    assert beside.is_wanted(settings) is wanted


@pytest.mark.parametrize(("locked", "is_there"), [("{version} \\\n", True), ("0.0.1 \\\n", False)])
def test_installed_packages_are_not_reinstalled_unless_another_version_is_locked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, locked: str, is_there: bool
) -> None:
    beside = script("agent_beside_host")
    version = importlib.metadata.version("pydantic")
    (tmp_path / "agent.txt").write_text("anyio==4.0 \\\npydantic==" + locked.format(version=version))
    monkeypatch.setattr(beside, "AGENT_SDK", "pydantic")
    monkeypatch.setattr(beside, "LOCKED", tmp_path / "agent.txt")
    assert beside.is_there() is is_there
    settings = make_settings(host={"runtime": "process", "provider": "claude"})
    assert beside.is_wanted(settings) is not is_there


def test_tests_write_to_memory_only_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = script("test")
    assert not run.has_room(tmp_path / "none")
    for bytes, has_room in ((1, True), (2**60, False)):
        monkeypatch.setattr(run, "ROOM", bytes)
        assert run.has_room(tmp_path) is has_room
