"""The simulator converts what people send with the bridge's code, in another process."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest
from pydantic import ValidationError

from nanohost.errors import UsageError
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators._whatsapp_converter import BridgeConverter
from nanohost.testing.simulators.whatsapp_linked import WhatsAppLinkedSimulator
from nanohost_whatsapp_bridge.convert import serve
from tests.channels.receiving import run_channel

from .conftest import Make

ADAS = "1001@s.whatsapp.net"


def _request(text: str) -> dict[str, object]:
    return {
        "content": {"conversation": text},
        "id": "M",
        "chat": ADAS,
        "sender": "1001",
        "sender_name": "Ada",
        "sent_at": 1.0,
        "is_group": False,
        "me": [],
        "people": {},
        "earlier": {},
        "selected_options": None,
        "file_bytes": 0,
    }


async def test_each_request_gets_its_own_answer_also_after_one_that_nobody_waits_for() -> None:
    converter = BridgeConverter()
    try:
        abandoned = asyncio.create_task(converter.convert(_request("abandoned")))
        while not converter.is_running:  # noqa: ASYNC110
            await asyncio.sleep(0)
        abandoned.cancel()
        await asyncio.wait([abandoned])
        said = await asyncio.gather(*(converter.convert(_request(text)) for text in ("one", "two")))
    finally:
        await converter.close()
    assert abandoned.cancelled()
    assert [one and one.text for one in said] == ["one", "two"]


async def test_a_converter_that_ends_is_started_again_for_the_next_request() -> None:
    converter = BridgeConverter()
    try:
        with pytest.raises(RuntimeError, match="ended"):
            await converter.convert({})
        said = await converter.convert(_request("hello"))
    finally:
        await converter.close()
    assert said is not None
    assert said.text == "hello"


def test_an_invalid_request_is_refused() -> None:
    with pytest.raises(ValidationError, match="content"):
        serve(io.BytesIO(b"{}\n"), io.BytesIO())


async def test_where_the_bridge_is_not_installed_words_and_files_are_sent_all_the_same(
    phone: WhatsAppLinkedSimulator, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nanohost_whatsapp_bridge", None)  # how Python is told that there is none
    inbox = SuiteInbox()
    async with run_channel(make(), inbox):
        with pytest.raises(UsageError, match="not installed") as raised:
            await phone.say(ADAS, {"locationMessage": {}})
        id = await phone.write(ADAS, "hello", file=("notes.txt", b"content"))
        await phone.edit(id, "hello!", chat=ADAS)
        await phone.react(id, "👍", chat=ADAS)
        await phone.delete(id, chat=ADAS)
        await inbox.wait_until(lambda: len(inbox.accepted) == 4)
    assert "pip install -e whatsapp_bridge" in str(raised.value.hint)
