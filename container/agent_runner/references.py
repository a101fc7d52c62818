"""Finds the number of the message that an edit, a reaction or a press refers to.

The files are searched, so the number is known as long as they hold the message. A message that is not found has no
number: nothing is guessed, and if several chats share a session their ids are never mixed up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent_runner.destinations import AddressBook
from agent_runner.prompt import decode_row
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.outbound import MessageRef, OutboundWriter
from nanohost_protocol.payloads import ChatIn, QuestionOut, decode_out
from nanohost_protocol.rows import ChatId, MessageIn, OutKind


def find_referenced_seqs(
    rows: Iterable[MessageIn], inbound: InboundReader, outbound: OutboundWriter, book: AddressBook
) -> Mapping[str, int]:
    """Returns the numbers of the messages that these rows refer to, by row id; leaves out rows without one."""
    found = {}
    for row in rows:
        payload = decode_row(row).payload
        if not isinstance(payload, ChatIn):
            continue
        number = _answered_seq(payload, outbound)
        if number is None and payload.refers_to is not None and row.origin is not None:
            number = _find_seq(payload.refers_to, row.origin.chat, inbound, outbound, book)
        if number is not None:
            found[row.id] = number
    return found


def find_question_texts(rows: Iterable[MessageIn], outbound: OutboundWriter) -> Mapping[str, str]:
    """Returns the agent's questions that these rows answer, by row id; leaves out unknown ones."""
    found = {}
    for row in rows:
        payload = decode_row(row).payload
        content = (
            outbound.question(payload.answers) if isinstance(payload, ChatIn) and payload.answers is not None else None
        )
        question = decode_out(OutKind.QUESTION, content) if content is not None else None
        if isinstance(question, QuestionOut):
            found[row.id] = question.text
    return found


def _answered_seq(payload: ChatIn, outbound: OutboundWriter) -> int | None:
    place = outbound.message_ref(payload.answers) if payload.answers is not None else None
    return None if place is None else place.seq


def _find_seq(id: str, chat: ChatId, inbound: InboundReader, outbound: OutboundWriter, book: AddressBook) -> int | None:
    theirs = [row.seq for row in inbound.find_by_platform_id(chat, id) if _is_message(row)]
    if theirs:
        return theirs[0]
    places = [place for out_id in inbound.find_out_ids(id) if (place := outbound.message_ref(out_id)) is not None]
    return min((place.seq for place in places if _was_sent_to(place, chat, inbound, book)), default=None)


def _is_message(row: MessageIn) -> bool:
    """Returns whether the row is a message. Edits, reactions and presses have the id of the message they refer to."""
    payload = decode_row(row).payload
    own_id = row.origin.platform_message_id if row.origin is not None else None
    return isinstance(payload, ChatIn) and payload.event == "message" and payload.refers_to != own_id


def _was_sent_to(place: MessageRef, chat: ChatId, inbound: InboundReader, book: AddressBook) -> bool:
    answered = inbound.find(place.in_reply_to) if place.in_reply_to is not None else None
    if place.destination is not None:
        named = next((one.chat for one in book.destinations if one.name == place.destination), None)
    else:
        named = answered.origin.chat if answered is not None and answered.origin is not None else None
    return named == chat if named is not None else len(book.destinations) <= 1
