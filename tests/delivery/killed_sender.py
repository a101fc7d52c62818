"""A host's delivery in a process of its own, to be killed: sends one long message to a platform that is a file.

python -m tests.delivery.killed_sender HOME PLATFORM; each line of PLATFORM is what the platform was sent, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from nanohost.channel_api import Address, Capabilities, OutboundText, Receipt
from nanohost.db import deliveries
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from tests.delivery.test_parts import LIMIT, LONG, running


class FilePlatform(FakeChannel):
    """Writes what it is sent to a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        super().__init__(capabilities=Capabilities(text_limit=LIMIT, idempotent_send=True))
        self._path = path

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": idempotency_key, "text": message.text}) + "\n")
        return Receipt(platform_message_ids=(idempotency_key,))


async def main(root: Path, platform: Path) -> None:
    async with running(root, FilePlatform(platform), ManualClock()) as bench:
        if await deliveries.find(bench.store, bench.session, 1) is None:
            await bench.enter(LONG, 1)
        await bench.settled(1)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
