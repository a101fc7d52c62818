"""Which message an edit, a reaction or a press is about, as the agent knows it: by its number.

Looked up in the files, so that it is known for as long as they hold the message. What is not found there has no number:
nothing is guessed, and where several chats share a session an id of one is never taken for that of another.
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
    """The numbers of the messages that these rows are about, by row id; a row that is about none is left out."""
    found = {}
    for row in rows:
        said = decode_row(row).payload
        if not isinstance(said, ChatIn):
            continue
        number = _answered_seq(said, outbound)
        if number is None and said.refers_to is not None and row.origin is not None:
            number = _find_seq(said.refers_to, row.origin.chat, inbound, outbound, book)
        if number is not None:
            found[row.id] = number
    return found


def find_question_texts(rows: Iterable[MessageIn], outbound: OutboundWriter) -> Mapping[str, str]:
    """The questions of ours that these rows answer, by row id; one that is not known any more is left out."""
    found = {}
    for row in rows:
        said = decode_row(row).payload
        content = outbound.question(said.answers) if isinstance(said, ChatIn) and said.answers is not None else None
        asked = decode_out(OutKind.QUESTION, content) if content is not None else None
        if isinstance(asked, QuestionOut):
            found[row.id] = asked.text
    return found


def _answered_seq(said: ChatIn, outbound: OutboundWriter) -> int | None:
    place = outbound.message_ref(said.answers) if said.answers is not None else None
    return None if place is None else place.seq


def _find_seq(id: str, chat: ChatId, inbound: InboundReader, outbound: OutboundWriter, book: AddressBook) -> int | None:
    theirs = [row.seq for row in inbound.find_by_platform_id(chat, id) if _is_message(row)]
    if theirs:
        return theirs[0]
    places = [place for out_id in inbound.find_out_ids(id) if (place := outbound.message_ref(out_id)) is not None]
    return min((place.seq for place in places if _was_sent_to(place, chat, inbound, book)), default=None)


def _is_message(row: MessageIn) -> bool:
    """An edit, a reaction and a press stand in the file under the id of the message that they are about."""
    said = decode_row(row).payload
    own_id = row.origin.platform_message_id if row.origin is not None else None
    return isinstance(said, ChatIn) and said.event == "message" and said.refers_to != own_id


def _was_sent_to(place: MessageRef, chat: ChatId, inbound: InboundReader, book: AddressBook) -> bool:
    answered = inbound.find(place.in_reply_to) if place.in_reply_to is not None else None
    if place.destination is not None:
        named = next((one.chat for one in book.destinations if one.name == place.destination), None)
    else:
        named = answered.origin.chat if answered is not None and answered.origin is not None else None
    return named == chat if named is not None else len(book.destinations) <= 1
