"""The model's key and address as a person sets and checks them, against a stub on loopback."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell, shell
from tests.cli.terminal import run_nanohost_in_terminal

__all__ = ["shell"]

KEY = "sk-ant-the-good-one"
SERVER = f"""
import asyncio, sys
from tests.support.messages_api import StubMessagesApi
async def serve():
    async with StubMessagesApi(key={KEY!r}) as api:
        print(api.base_url, flush=True)
        await asyncio.Event().wait()
asyncio.run(serve())
"""


@pytest.fixture
def address() -> Iterator[str]:
    """The address of the stub."""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


CLAUDE = {"NANOHOST_PROVIDER": "claude", "NANOHOST_AGENT_TOOLS": "none"}


@pytest.mark.behaviour("GW-08")
def test_a_key_is_checked_before_it_is_saved_and_a_wrong_one_is_not(shell: Shell, address: str) -> None:
    wrong = shell.run("model", "set", "--base-url", address, stdin="", ANTHROPIC_API_KEY="sk-ant-wrong")
    assert wrong.code == 1
    assert "127.0.0.1 refuses the key for the model (401: invalid x-api-key)" in wrong.err
    assert "nanohost model set" in wrong.err
    assert wrong.err.count("refuses the key") == 1, "the log says no more of it"
    assert not (shell.home / "nanohost.toml").exists()
    right = shell.run("model", "set", "--base-url", address, ANTHROPIC_API_KEY=KEY)
    assert right.code == 0, right.err
    assert "127.0.0.1 takes the key" in right.out
    typed = shell.run("model", "set", stdin=f"\ufeff{KEY} \n")
    assert typed.code == 0, typed.err
    assert (shell.home / "secrets" / "model-key").read_text() == f"{KEY}\n"
    assert KEY not in (shell.home / "nanohost.toml").read_text() + typed.out + typed.err
    assert "it counts from the host's next start" in typed.out
    over = shell.run("model", "set", stdin=f"{KEY}\n", NANOHOST_AGENT_API_KEY="sk-ant-before")
    assert "unset NANOHOST_AGENT_API_KEY" in over.out
    checked = shell.run("model", "check", **CLAUDE)
    assert (checked.code, "takes the key" in checked.out) == (0, True), checked.err


@pytest.mark.behaviour("GW-08")
def test_a_key_moved_elsewhere_is_deleted_from_the_disk(shell: Shell) -> None:
    file = shell.home / "secrets" / "model-key"
    shell.run("model", "set", "--anyway", stdin=f"{KEY}\n")
    same = shell.run("model", "set", "--anyway", "--key", f"file:{file}")
    assert (same.code, file.exists()) == (0, True), same.err
    elsewhere = shell.run("model", "set", "--anyway", "--key", "env:MY_KEY", MY_KEY=KEY)
    assert (elsewhere.code, file.exists()) == (0, False), elsewhere.err


@pytest.mark.behaviour("GW-08")
def test_an_address_from_a_variable_that_is_not_saved_is_mentioned(shell: Shell, address: str) -> None:
    kept = shell.run("model", "set", stdin=f"{KEY}\n", ANTHROPIC_BASE_URL=address)
    assert "127.0.0.1 takes the key; that address is in ANTHROPIC_BASE_URL alone" in kept.out, kept.err
    assert "base_url" not in (shell.home / "nanohost.toml").read_text()


class Down(BaseHTTPRequestHandler):
    """A service that fails for every request."""

    def do_GET(self) -> None:
        self.send_response(500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """No log of requests."""


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(
    ("key", "said"),
    [
        (KEY, "127.0.0.1 answered with 500, and the key could not be tried"),
        ("", "127.0.0.1 answered with 500, and whether a model is there could not be tried"),
    ],
)
def test_a_failing_service_is_not_reported_as_accepting_the_key(shell: Shell, key: str, said: str) -> None:
    with HTTPServer(("127.0.0.1", 0), Down) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            saved = shell.run("model", "set", "--base-url", address, ANTHROPIC_API_KEY=key)
            checked = shell.run("model", "check", ANTHROPIC_API_KEY=key, **CLAUDE)
        finally:
            server.shutdown()
            serving.join(scaled_timeout(HANG_TIMEOUT_S))
    for typed in (saved, checked):
        assert (typed.code, f"{said}\n" in typed.out) == (0, True), typed.out + typed.err


@pytest.mark.behaviour("GW-08")
def test_a_key_that_was_not_saved_is_not_suggested_for_checking(shell: Shell, unused_tcp_port: int) -> None:
    gone = f"http://127.0.0.1:{unused_tcp_port}"
    typed = shell.run("model", "set", "--base-url", gone)
    assert (typed.code, "; nothing was saved" in typed.err) == (1, True)
    assert "model check" not in typed.err
    assert "hint: nanohost model set, when the network is up" in typed.err


@pytest.mark.behaviour("GW-08")
def test_a_refused_key_is_asked_for_again_in_a_terminal(shell: Shell, address: str) -> None:
    with run_nanohost_in_terminal(shell.home, "model", "set", ANTHROPIC_BASE_URL=address) as person:
        person.wait_for_text("(not shown):")
        person.send_line("sk-ant-wrong")
        person.wait_until(lambda text: text.count("(not shown):") == 2)
        person.send_line(KEY)
        assert person.ends() == 0
        assert "invalid x-api-key). Nothing was saved. Once more (Ctrl-C leaves):" in person.raw.decode()
    assert (shell.home / "secrets" / "model-key").read_text() == f"{KEY}\n"


@pytest.mark.behaviour("GW-08")
def test_a_wrong_key_can_be_saved_on_demand_and_the_check_then_fails_with_a_hint(shell: Shell, address: str) -> None:
    saved = shell.run("model", "set", "--anyway", stdin="sk-ant-wrong\n")
    assert saved.code == 0, saved.err
    checked = shell.run("model", "check", ANTHROPIC_BASE_URL=address, **CLAUDE)
    assert checked.code == 1
    assert "refuses the key" in checked.err
    assert "nanohost model set" in checked.err


def test_a_key_on_the_command_line_is_refused_with_the_alternatives(shell: Shell) -> None:
    typed = shell.run("model", "set", "--key", KEY)
    assert typed.code != 0
    assert "the shell's history" in typed.err
    assert "--key env:NAME" in typed.err
    assert KEY not in typed.err


def test_without_a_model_the_check_explains_how_to_set_one(shell: Shell) -> None:
    typed = shell.run("model", "check")
    assert typed.code != 0
    assert "nanohost model set" in typed.err


@pytest.mark.behaviour("GW-08")
def test_a_host_with_a_wrong_key_reports_it_at_start_and_in_status_until_it_is_right(
    shell: Shell, address: str
) -> None:
    for key, is_wrong in (("sk-ant-wrong", True), (KEY, False)):
        environ = {**CLAUDE, "ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": address}
        with shell.start("run", NANOHOST_LOG="json", **environ) as host:
            assert host.stderr is not None
            begun = list(itertools.takewhile(lambda line: "host_ready" not in line, host.stderr))
            said = "WARNING: No agent can ask its model: 127.0.0.1 refuses the key for the model (401"
            assert any(line.startswith(said) for line in begun) is is_wrong
            assert any("model_check_failed" in line for line in begun) is is_wrong
            status = shell.run("status").out
            assert ("The model cannot be asked   → nanohost model set" in status) is is_wrong
            assert ("All is well." in status) is not is_wrong
            host.terminate()
            host.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
