"""nanohost pair with a running host: whether a QR code is shown depends on the terminal of the command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import segno

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell
from tests.cli.terminal import run_in_terminal, run_nanohost_in_terminal
from tests.commands.test_qr import modules

LINK = "https://pigeon.example/home"
PIGEON = f"""
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "pigeon"
# api = 1
# ///
import asyncio
from contextlib import asynccontextmanager

from nanohost.channel_api import Capabilities, Receipt


class Pigeon:
    capabilities = Capabilities()

    @asynccontextmanager
    async def connected(self):
        yield

    async def receive(self, inbox):
        await asyncio.Event().wait()

    async def send(self, address, message, *, idempotency_key):
        return Receipt()

    async def deep_link(self, text):
        return "{LINK}"


def create(context):
    return Pigeon()
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell of an install with a channel that has pairing links."""
    home = tmp_path / "home"
    (home / "channels").mkdir(parents=True)
    (home / "channels" / "pigeon.py").write_text(PIGEON)
    (home / "nanohost.toml").write_text("[channels.pigeon]\n")
    return Shell(home)


def test_a_terminal_gets_a_qr_code_though_the_host_has_none(shell: Shell, daemon: Daemon) -> None:
    with run_nanohost_in_terminal(shell.home, "pair", "pigeon", NO_COLOR="1") as person:
        assert person.ends() == 0
        shown = person.text()
    code = shown.partition("or scan it with the phone:\n\n")[2].partition("\n\n")[0]
    assert modules(code.splitlines()) == [list(row) for row in segno.make_qr(LINK, error="l").matrix]


def test_output_to_a_file_has_no_qr_code_though_the_host_has_a_terminal(shell: Shell) -> None:
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8", "NANOHOST_HOME": str(shell.home)}
    host = {"NANOHOST_RUNTIME": "process", "NANOHOST_PROVIDER": "demo", "NANOHOST_DURABLE": "false"}
    with run_in_terminal(
        [sys.executable, "-m", "nanohost", "run"], environ | host | {"NANOHOST_TIMEZONE": "UTC"}
    ) as run:
        run.wait_for_text("ready")
        typed = shell.run("pair", "pigeon")
        assert f"or open {LINK}" in typed.out
        assert "scan it" not in typed.out
        run.process.terminate()
        run.process.wait(scaled_timeout(HANG_TIMEOUT_S))
