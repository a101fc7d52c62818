"""What this container is doing, for the host's eyes: written at most once a poll, and not at all by quick turns."""

from __future__ import annotations

from datetime import datetime

from agent_runner.mailbox import Mailbox
from nanohost_protocol.times import to_text


class Progress:
    """The state is changed freely; `write` puts it into the file if it is another than what is there."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._current: dict[str, str] = {}
        self._written: dict[str, str] = {}

    def turn(self, turn_id: str, since: datetime) -> None:
        self._current = {"state": "turn", "turn": turn_id, "since": to_text(since)}

    def tool(self, name: str | None, since: datetime) -> None:
        """A tool is in flight; None: it came back."""
        kept = {key: value for key, value in self._current.items() if not key.startswith("tool")}
        self._current = kept if name is None else kept | {"tool": name, "tool_since": to_text(since)}

    def idle(self) -> None:
        self._current = {}

    async def write(self) -> None:
        if self._current != self._written:
            current = dict(self._current)
            await self._mailbox.set_progress(current)
            self._written = current
