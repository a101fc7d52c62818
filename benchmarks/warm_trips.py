"""A host that makes warm round trips when it is told to, as a process of its own: also with an earlier build's code.

Usage: warm_trips.py FOLDER. For each line on its standard input, a number, it makes so many round trips and writes
their milliseconds as one line of JSON. What it uses has to be there in the base build, too, or to be looked up by the
name that it has there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import structlog

from tests.support import flow as flow_support

LIMIT_S = 60.0


async def main(root: Path) -> None:
    names = vars(flow_support)
    run_host = names.get("run_host") or names["flowing"]
    async with run_host(root, settings=flow_support.scripted_settings(durable=True)) as flow:
        await flow.wire()
        await trip(flow, "first")
        while line := await asyncio.to_thread(sys.stdin.readline):
            took = [await trip(flow, f"warm {number}") for number in range(int(line))]
            print(json.dumps(took), flush=True)


async def trip(flow: Any, text: str) -> float:
    """Milliseconds from the event to the answer in the channel's hands."""
    wait_for_sent = getattr(flow.fake, "wait_for_sent", None) or flow.fake.wait_for
    before = len(flow.fake.sent)
    began = time.perf_counter()
    await flow.fake.person_writes(text)
    await wait_for_sent(before + 1, LIMIT_S)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main(Path(sys.argv[1])))
