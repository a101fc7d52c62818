"""The control socket: commands of an operator, answered by the host that has the database."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nanohost.commands.context import CommandContext, local_user_id
from nanohost.commands.tables import Json
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.control.client import HostNotRunning, send_command, send_command_for_text
from nanohost.control.server import serve_control_socket
from nanohost.errors import NanohostError, UsageError
from nanohost.model import AgentGroupId, Session
from nanohost.net.socket_path import short_socket_path
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.template_home import opened_store


class BrokenHost:
    """A host whose report raises an unexpected error."""

    def report(self) -> dict[str, Json]:
        raise ZeroDivisionError("oh")

    async def restart(self, session: Session, *, now: bool, message: str | None) -> bool:
        raise ZeroDivisionError("oh")

    def stop_container(self, session: Session) -> bool:
        raise ZeroDivisionError("oh")

    async def deep_link(self, channel: str, instance: str, text: str) -> str | None:
        raise ZeroDivisionError("oh")

    async def addresses_changed(self, agent_group: AgentGroupId) -> None:
        raise ZeroDivisionError("oh")


@asynccontextmanager
async def host(root: Path, *, live: BrokenHost | None = None) -> AsyncIterator[Home]:
    """A home whose commands are served."""
    home = Home(root)
    async with opened_store(home, durable=False) as store:
        context = CommandContext(home=home, settings=Settings(), clock=ManualClock(), store=store, host=live)
        async with serve_control_socket(context):
            yield home


async def says(home: Home, *lines: bytes) -> list[Any]:
    """The answers to lines of a custom client."""
    with short_socket_path(home.control_socket) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        for line in lines:
            writer.write(line + b"\n")
            answers.append(json.loads(await reader.readline()))
    writer.close()
    await writer.wait_closed()
    return answers


async def test_a_command_is_answered_with_its_result(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        made = await send_command(home, "agents create", {"folder": "main"})
        assert made["folder"] == "main"
        assert [group["folder"] for group in await send_command(home, "agents list", {})] == ["main"]


@pytest.mark.behaviour("OP-05")
async def test_a_refusal_is_passed_on_with_its_sentence_and_hint(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        with pytest.raises(UsageError, match="there is no agent group 'main'") as caught:
            await send_command(home, "agents get", {"folder": "main"})
        assert caught.value.hint == "nanohost agents create main"


async def test_only_the_hosts_user_may_connect(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        assert home.control_socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b'"status"',
        b'{"command": 1}',
        b'{"command": "status", "arguments": []}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
async def test_an_invalid_line_is_answered_and_the_next_one_works(tmp_path: Path, line: bytes) -> None:
    async with host(tmp_path) as home:
        refused, answered = await says(home, line, b'{"command": "agents list"}')
        assert (refused["ok"], refused["reason"], refused["sentence"]) == (False, "usage", "that is not a command")
        assert answered == {"ok": True, "result": []}


@pytest.mark.behaviour("OP-05")
async def test_an_unexpected_error_is_reported_and_logged_and_affects_no_other_command(tmp_path: Path) -> None:
    async with host(tmp_path, live=BrokenHost()) as home:
        with capture_logs() as lines, pytest.raises(NanohostError, match="ZeroDivisionError") as caught:
            await send_command(home, "status", {})
        assert "log" in caught.value.hint
        assert [line["event"] for line in lines] == ["command_failed"]
        assert await send_command(home, "agents list", {}) == []


async def test_simultaneous_commands_each_get_their_own_answer(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        folders = [f"g{number}" for number in range(20)]
        made = await asyncio.gather(*(send_command(home, "agents create", {"folder": folder}) for folder in folders))
        assert [group["folder"] for group in made] == folders


async def test_a_client_that_disconnects_midway_affects_nobody(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        with short_socket_path(home.control_socket) as path:
            _, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"command": "groups li')
        writer.close()
        await writer.wait_closed()
        assert await send_command(home, "agents list", {}) == []


async def test_a_home_of_any_path_length_can_be_reached(tmp_path: Path) -> None:
    async with host(tmp_path / ("deep" * 30) / ("er" * 60)) as home:
        assert await send_command(home, "agents list", {}) == []


async def test_a_socket_left_by_a_dead_host_is_replaced(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.control_socket.write_text("left over")
    async with host(tmp_path):
        assert await send_command(home, "agents list", {}) == []


async def test_without_a_host_a_command_raises_host_not_running(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(HostNotRunning):
        await send_command(home, "status", {})
    async with host(tmp_path):
        pass
    assert not home.control_socket.exists()
    with pytest.raises(HostNotRunning):
        await send_command(home, "status", {})


@pytest.mark.behaviour("OP-05")
async def test_a_host_that_disconnects_before_answering_is_reported(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    with short_socket_path(home.control_socket) as path:
        server = await asyncio.start_unix_server(dies, path)
    async with server:
        with pytest.raises(NanohostError, match="went away before it answered"):
            await send_command(home, "status", {})


async def test_a_change_through_the_socket_is_recorded_with_its_author(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        await send_command(home, "roles create", {"user": "telegram:1", "role": "owner"})
        [entry] = await send_command(home, "audit list", {})
    assert entry["who"] == local_user_id(os.geteuid())


def test_a_user_without_a_name_on_this_machine_is_identified_by_number() -> None:
    assert local_user_id(4_000_000_000) == "local:4000000000"


async def test_the_host_renders_output_for_printing(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        socket = str(home.control_socket)
        await send_command(home, "agents create", {"folder": "main"})
        text, failed = await asyncio.to_thread(send_command_for_text, socket, "agents list", {}, output_format="text")
        assert "folder" in text.splitlines()[0]
        assert not failed
        text, _ = await asyncio.to_thread(send_command_for_text, socket, "agents list", {}, output_format="json")
        assert json.loads(text) == await send_command(home, "agents list", {})


@pytest.mark.behaviour("OP-05")
async def test_a_refusal_is_passed_on_also_when_the_host_renders(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        with pytest.raises(UsageError, match="there is no agent group 'main'") as caught:
            await asyncio.to_thread(
                send_command_for_text, str(home.control_socket), "agents get", {"folder": "main"}, output_format="text"
            )
        assert caught.value.hint == "nanohost agents create main"


async def test_an_unknown_output_form_gives_the_plain_result(tmp_path: Path) -> None:
    async with host(tmp_path) as home:
        assert await says(home, b'{"command": "agents list", "form": ["html"]}') == [{"ok": True, "result": []}]


async def test_a_host_that_cannot_render_is_treated_as_not_rendering(tmp_path: Path) -> None:
    async def older(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok": true, "result": []}\n')
        writer.close()

    async with await asyncio.start_unix_server(older, tmp_path / "s"):
        with pytest.raises(HostNotRunning):
            await asyncio.to_thread(send_command_for_text, str(tmp_path / "s"), "agents list", {}, output_format="text")


@pytest.mark.behaviour("OP-05")
async def test_a_rendering_host_that_disconnects_before_answering_is_reported(tmp_path: Path) -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok": tr')
        writer.close()

    async with await asyncio.start_unix_server(leaves, tmp_path / "s"):
        with pytest.raises(NanohostError, match="went away before it answered"):
            await asyncio.to_thread(send_command_for_text, str(tmp_path / "s"), "agents list", {}, output_format="text")


async def test_without_a_host_rendering_raises_host_not_running(tmp_path: Path) -> None:
    with pytest.raises(HostNotRunning):
        send_command_for_text(str(tmp_path / "s"), "agents list", {}, output_format="text")
