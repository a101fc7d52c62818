"""What a session's agent still has to do, and how to keep it from doing it."""

from __future__ import annotations

from collections.abc import Iterator

from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import InKind, MessageIn


def waiting(box: InboundWriter) -> Iterator[MessageIn]:
    """Messages that are being worked on, wait, or are to be tried again; not what is for the runner, or for its next
    container."""
    for message in box.pending():
        if message.kind is not InKind.CONTROL and not message.on_wake:
            yield message


def end_all(box: InboundWriter) -> bool:
    """Close all of that, for good: no runner takes a closed message, and no failure opens it again. False if there was
    nothing that anybody waits for."""
    messages = list(waiting(box))
    for message in messages:
        box.close(message.id, "failed")
    return any(message.trigger for message in messages)
