"""Reports to the host what this container is doing: at most once per poll, and not for quick turns."""

from __future__ import annotations

from datetime import datetime

from agent_runner.mailbox import Mailbox
from nanohost_protocol.times import to_text

_TOOL_KEYS = {"tool", "tool_since", "tool_timeout_s", "waiting"}
_QUESTION_TOOL = "ask_user_question"


class Progress:
    """The runner's progress. Methods change it in memory; `write` stores it in the file if it has changed."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._current: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._waiting_since: datetime | None = None
        self._unrecorded_since: datetime | None = None

    def start_turn(self, turn_id: str, since: datetime) -> None:
        self._current = {"state": "turn", "turn": turn_id, "since": to_text(since)}

    def set_tool(
        self, name: str | None, since: datetime, *, timeout_s: float | None = None, for_person: bool = False
    ) -> None:
        """Records a running tool; None: it returned. `timeout_s`: its limit. `for_person`: it waits for a person."""
        self._current = {key: value for key, value in self._current.items() if key not in _TOOL_KEYS}
        if name is not None:
            self._current |= {"tool": name, "tool_since": to_text(since)}
        if timeout_s is not None:
            self._current["tool_timeout_s"] = f"{timeout_s:g}"
        if for_person:
            self._current["waiting"] = "person"

    def set_waiting_for_user(self, is_waiting: bool, now: datetime) -> None:
        """Records whether a call waits for a person's answer, besides other running tools."""
        self._waiting_since = (self._waiting_since or now) if is_waiting else None

    def clear(self) -> None:
        self._current, self._waiting_since = {}, None

    def set_recorded(self, is_recorded: bool, now: datetime) -> None:
        """Records whether the last turn is in the provider's record of the conversation."""
        self._unrecorded_since = None if is_recorded else (self._unrecorded_since or now)

    def set_rate_limited(self, until: datetime) -> None:
        """Records until when the provider must not be called."""
        self._current["rate_limited_until"] = to_text(until)

    async def write(self) -> None:
        current = dict(self._current)
        if self._waiting_since is not None:
            current = {
                "tool": _QUESTION_TOOL,
                "tool_since": to_text(self._waiting_since),
                **current,
                "waiting": "person",
            }
        if self._unrecorded_since is not None:
            current["not_kept"] = to_text(self._unrecorded_since)
        if current != self._written:
            await self._mailbox.set_progress(current)
            self._written = current
