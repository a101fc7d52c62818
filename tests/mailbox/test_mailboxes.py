"""The host's half of the two files: what it promises to whoever uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost_protocol.outbound import OutboundReader, OutboundWriter
from tests.support.a_session import SESSION


@pytest.fixture
async def mailboxes(tmp_path: Path) -> AsyncIterator[Mailboxes]:
    boxes = Mailboxes(tmp_path, durable=False)
    async with boxes.opened():
        layout = boxes.layout(SESSION)
        layout.out_dir.mkdir(parents=True)
        OutboundWriter(layout.outbound_db, container_id="l", durable=False).close()
        yield boxes


@pytest.mark.parametrize("surprise", [ValueError, TypeError, OverflowError, RecursionError, KeyError])
async def test_whatever_a_containers_rows_bring_about_is_an_error_of_its_session(
    mailboxes: Mailboxes, surprise: type[Exception]
) -> None:
    def read(box: OutboundReader) -> None:
        raise surprise("what nobody thought of")

    with pytest.raises(MailboxError, match="s1 of main"):
        await mailboxes.outbound(SESSION, read)
