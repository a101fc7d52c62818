"""What the agent reads of an event that a channel handed in: the real intake's cleaning, row and prompt, no host."""

from __future__ import annotations

import re
from datetime import UTC

from agent_runner.destinations import AddressBook
from agent_runner.prompt import View, batch_prompt
from nanohost.channel_api import InboundEvent
from nanohost.intake.cleaning import cleaned, problem_of
from nanohost.model import EventId, WiringId
from nanohost.routing.message import message_for
from nanohost.store.events import ChatKey, StoredEvent
from nanohost.testing.manual_clock import START
from nanohost_protocol.rows import Destination, MessageIn

BEGIN, END = "<!-- what arrives as what: generated -->", "<!-- end -->"


def prompt_of(event: InboundEvent) -> str:
    """The prompt of this event alone. Fails for one that the host would not keep."""
    assert problem_of(event) is None, f"{problem_of(event)}: {event}"
    chat = ChatKey("platform", "default", event.platform_id)
    kept = cleaned(event, threads=True)
    new = message_for(StoredEvent(id=EventId(1), chat=chat, event=kept, received_at=START), WiringId(1))
    row = MessageIn(
        seq=2,
        id=new.id,
        kind=new.kind,
        timestamp=START,
        status="pending",
        process_after=None,
        tries=0,
        trigger=True,
        on_wake=False,
        origin=new.origin,
        content=new.content,
    )
    book = AddressBook(destinations=(Destination(name="home", display_name="Home"),), default="home")
    return batch_prompt([row], View(now=START, zone=UTC, timezone="UTC", book=book)).text


def unescaped(prompt: str) -> str:
    """The prompt as whoever knows XML reads it."""
    return prompt.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")


def table_of(arrived: dict[str, list[InboundEvent]]) -> str:
    """What arrives as what, as a page shows it: kinds, and what the agent reads of them."""
    rows = [f"| {kind} | {'<br>'.join(map(_cell, events))} |" for kind, events in arrived.items()]
    return "\n".join(["| what somebody sends | what the agent reads |", "|---|---|", *rows])


def _cell(event: InboundEvent) -> str:
    element = prompt_of(event).partition("\n")[2]
    inside = re.sub(r"\A<message[^>]*>|</message>\Z", "", element.strip()).strip()
    files = [f"file {one.name or 'without a name'}" for one in event.attachments]
    return "<br>".join(map(_code, filter(None, [*inside.splitlines(), *files])))


def _code(line: str) -> str:
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    margin = " " if "`" in line else ""
    return f"{marks}{margin}{line}{margin}{marks}".replace("|", "\\|")
