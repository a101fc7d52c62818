"""A file over a slow line is sent once, however long it takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from channels import discord, slack
from channels.telegram import TelegramChannel, Timeouts
from channels.telegram import read_settings as telegram_settings
from channels.whatsapp import WhatsAppChannel
from channels.whatsapp import read_settings as whatsapp_settings
from nanohost.channel_api import Address, Channel, ChannelContext, OutboundFile, SendsFiles, upload_answer_s
from nanohost.delivery.sender import SEND_TIMEOUT_S, send_timeout_s
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import BOB
from nanohost.testing.time_limits import scaled_timeout
from tests.channels.everywhere import bobs_chat, platform_names

ANSWER_S = 0.4
"""The timeout of the channels for a response in these tests."""
SIZE, A_SECOND = 3_000_000, 2_000_000
"""Bytes: sending them takes more than three times the timeout on any machine, because the line is slowed accordingly.
"""
PIECE = 64 * 1024
URLS = ("base_url", "rest_url", "graph_url")

MADE: dict[str, Callable[[dict[str, Any]], Channel]] = {
    "telegram": lambda table: TelegramChannel(
        telegram_settings(table), timeouts=Timeouts(answer_timeout_s=scaled_timeout(ANSWER_S))
    ),
    "slack": lambda table: slack.create(_context(table)),
    "discord": lambda table: discord.create(_context(table)),
    "whatsapp": lambda table: WhatsAppChannel(
        whatsapp_settings(table), answer_limit_s=scaled_timeout(ANSWER_S), status_wait_s=0.1
    ),
}


def _context(table: dict[str, Any]) -> ChannelContext:
    here = Path("/nonexistent")
    return ChannelContext(
        instance="default", settings={**table, "timeout_s": scaled_timeout(ANSWER_S)}, runtime_dir=here, home=here
    )


@asynccontextmanager
async def slow_line(port: int) -> AsyncIterator[int]:
    """The port of a slow line to this port: data out is slow, data in is not."""

    async def pass_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        back = asyncio.ensure_future(_pass(there_reader, writer, 0.0))
        await _pass(reader, there_writer, scaled_timeout(PIECE / A_SECOND))
        await back

    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
    taken.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(pass_slowly, sock=taken, limit=PIECE)
    async with server:
        yield taken.getsockname()[1]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float) -> None:
    try:
        while piece := await reader.read(PIECE):
            await asyncio.sleep(pause_s * len(piece) / PIECE)
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass  # the other end has hung up
    finally:
        writer.close()


@pytest.mark.case("an upload of 50 MB over a slow line (1 Mbit/s)")
@pytest.mark.behaviour("DL-15")
@pytest.mark.parametrize("name", platform_names())
async def test_a_file_on_a_slow_line_is_sent_once_however_long_it_takes(tmp_path: Path, name: str) -> None:
    platform, content = find_simulator(name), tmp_path / "content"
    content.write_bytes(b"x" * SIZE)
    async with platform.running():
        await platform.write(bobs_chat(platform), "hello", person=BOB)
        table = dict(platform.settings())
        url = next(key for key in URLS if key in table)
        port = int(table[url].split(":")[2].partition("/")[0])
        async with slow_line(port) as slow:
            table[url] = table[url].replace(f":{port}", f":{slow}")
            channel = MADE[name](table)
            async with channel.connected():
                assert isinstance(channel, SendsFiles)
                file = OutboundFile(name="big.bin", media_type="text/plain", size=SIZE, content=content)
                await channel.send_file(Address(platform_id=platform.dm), file, idempotency_key="k1")
        [shown] = platform.screen(platform.dm)
    assert (shown.file_name, len(shown.file_bytes)) == ("big.bin", SIZE)


@pytest.mark.behaviour("DL-15")
def test_a_send_has_a_minute_plus_the_time_its_file_needs_on_a_slow_line() -> None:
    assert send_timeout_s(0) == SEND_TIMEOUT_S
    at_one_megabit_s = 50_000_000 * 8 / 1_000_000
    assert send_timeout_s(50_000_000) > at_one_megabit_s + SEND_TIMEOUT_S
    assert send_timeout_s(50_000_000) < 900, "what does not get on is ended all the same"


@pytest.mark.behaviour("DL-15")
def test_the_response_to_an_upload_is_awaited_for_as_long_as_the_buffered_data_may_take() -> None:
    assert upload_answer_s(0) == 0
    assert upload_answer_s(1_000_000) == pytest.approx(15.6, abs=0.1)
    assert upload_answer_s(10**9) == upload_answer_s(10**8), "no system keeps more than a few megabytes"
