"""What this container is doing, for the host's eyes: written at most once a poll, and not at all by quick turns."""

from __future__ import annotations

from datetime import datetime

from agent_runner.mailbox import Mailbox
from nanohost_protocol.times import to_text

_OF_A_TOOL = {"tool", "tool_since", "tool_timeout_s", "waiting"}
_QUESTION = "ask_user_question"


class Progress:
    """The state is changed freely; `write` puts it into the file if it is another than what is there."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._current: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._asked_at: datetime | None = None
        self._not_kept: datetime | None = None

    def turn(self, turn_id: str, since: datetime) -> None:
        self._current = {"state": "turn", "turn": turn_id, "since": to_text(since)}

    def tool(
        self, name: str | None, since: datetime, *, timeout_s: float | None = None, for_person: bool = False
    ) -> None:
        """A tool is in flight; None: it came back. `timeout_s`: what it may take. `for_person`: it waits for one."""
        self._current = {key: value for key, value in self._current.items() if key not in _OF_A_TOOL}
        if name is not None:
            self._current |= {"tool": name, "tool_since": to_text(since)}
        if timeout_s is not None:
            self._current["tool_timeout_s"] = f"{timeout_s:g}"
        if for_person:
            self._current["waiting"] = "person"

    def asking(self, is_asking: bool, now: datetime) -> None:
        """A call waits for a person's answer, whatever else is in flight."""
        self._asked_at = (self._asked_at or now) if is_asking else None

    def idle(self) -> None:
        self._current, self._asked_at = {}, None

    def kept(self, is_kept: bool, now: datetime) -> None:
        """Whether the last turn is in the provider's record of the conversation."""
        self._not_kept = None if is_kept else (self._not_kept or now)

    def limited(self, until: datetime) -> None:
        """The provider is not to be asked before."""
        self._current["rate_limited_until"] = to_text(until)

    async def write(self) -> None:
        current = dict(self._current)
        if self._asked_at is not None:
            current = {"tool": _QUESTION, "tool_since": to_text(self._asked_at), **current, "waiting": "person"}
        if self._not_kept is not None:
            current["not_kept"] = to_text(self._not_kept)
        if current != self._written:
            await self._mailbox.set_progress(current)
            self._written = current
