"""Resolves where a message of the agent goes. Pure: takes a name, returns an address or a problem.

An address is either a destination's name, which the host checks again, or None together with the answered message: the
host then replies in the chat and thread of that message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanohost_protocol.rows import ChatId, Destination, MessageIn


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressBook:
    """The names the agent may send to, and the one that is this session's own chat."""

    destinations: tuple[Destination, ...] = ()
    default: str | None = None

    def find(self, name: str) -> Destination | None:
        """Returns the destination of this name, or of this title if only one has it. Case does not matter."""
        wanted = name.strip().casefold()
        by_name = [one for one in self.destinations if one.name.casefold() == wanted]
        by_title = [one for one in self.destinations if one.display_name.casefold() == wanted]
        found = by_name or by_title
        return found[0] if len(found) == 1 else None

    def name_of_origin(self, row: MessageIn) -> str | None:
        """Returns the agent's name for the chat that a row came from."""
        if row.origin is None:
            return None
        chat = row.origin.chat
        return next((one.name for one in self.destinations if one.chat == chat), self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The two columns of an outbound row that determine where it goes."""

    destination: str | None = None
    in_reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class UnreachableTarget:
    """Why nothing was sent, as text for the agent."""

    problem: str


class ReplyContext:
    """The messages that an answer may refer to: the last of `messages` by default, any of the turn by its number."""

    def __init__(self, messages: Sequence[MessageIn], *, turn_messages: Sequence[MessageIn]) -> None:
        self._by_number = {row.seq: row for row in turn_messages}
        self._last = next((row for row in reversed(messages) if row.trigger and row.origin is not None), None)
        self.is_single_chat = (
            len({row.origin.chat for row in turn_messages if row.trigger and row.origin is not None}) <= 1
        )

    def last_message_from(self, chat: ChatId | None) -> MessageIn | None:
        """Returns the last message of the turn from this chat that needs an answer."""
        rows = (row for row in reversed(list(self._by_number.values())) if row.trigger and row.origin is not None)
        return next((row for row in rows if row.origin is not None and row.origin.chat == chat), None)

    def resolve(self, number: int | None) -> MessageIn | None:
        """Returns the message with this number; without a number the last one that needs an answer."""
        return self._by_number.get(number, self._last) if number is not None else self._last


def resolve_address(
    to: str | None, re: int | None, *, book: AddressBook, reply_context: ReplyContext
) -> Address | UnreachableTarget:
    """Returns the address of a message to `to` that answers message number `re`; both may be left out."""
    answered = reply_context.resolve(re)
    reply = answered.id if answered is not None else None
    if to is None:
        return Address(in_reply_to=reply)
    found = book.find(to)
    if found is None:
        return UnreachableTarget(f"There is no destination {to!r}; there is {_list_names(book)}.")
    if re is None and (last := reply_context.last_message_from(found.chat)) is not None:
        return Address(in_reply_to=last.id)
    # A destination without a chat means "the chat of the message", which is clear only if all messages are from one.
    if found.chat is None and found.name == book.default and reply_context.is_single_chat:
        return Address(in_reply_to=reply)
    return Address(destination=found.name, in_reply_to=reply if re is not None else None)


def resolve_bare_address(*, book: AddressBook, reply_context: ReplyContext) -> Address | UnreachableTarget:
    """Returns the address of text outside of blocks."""
    if len(book.destinations) > 1 or not reply_context.is_single_chat:
        return UnreachableTarget(f'Text outside of <message to="..."> was not sent; there is {_list_names(book)}.')
    answered = reply_context.resolve(None)
    return Address(in_reply_to=answered.id if answered is not None else None)


def _list_names(book: AddressBook) -> str:
    return ", ".join(repr(one.name) for one in book.destinations) or "none"
