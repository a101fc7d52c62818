"""`python -m nanohost_whatsapp_bridge.convert`: converts contents of messages as a device does, without the library.

Reads one request a line from stdin, and writes for each the line that a device would write for the host, or `null`
where it would write none. Ends with stdin. A simulated WhatsApp uses it to show what a real one would tell.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from nanohost_whatsapp_bridge.content import MessageInfo, media_of, to_message, unwrapped
from nanohost_whatsapp_bridge.kinds import MessageContext
from nanohost_whatsapp_bridge.protocol import File, encode
from nanohost_whatsapp_bridge.values import Json, as_mapping, as_text

NO_MESSAGE = b"null\n"


class Request(BaseModel):
    """One content, and what a device knows beside it: see MessageInfo and MessageContext. `earlier` has contents of the
    same chat by the ids of their messages. `file_bytes` is the size of the file, if the content has one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    content: dict[str, object]
    id: str
    chat: str
    sender: str
    sender_name: str
    sent_at: float
    is_group: bool
    me: list[str]
    people: dict[str, str]
    earlier: dict[str, dict[str, object]]
    selected_options: list[str] | None
    file_bytes: int


def main() -> None:
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each request until there are no more. Raises ValidationError for an invalid one."""
    for line in requests:
        answers.write(convert(Request.model_validate_json(line)))
        answers.flush()


def convert(request: Request) -> bytes:
    """The line for the host. The reference of a file is the id of its message."""
    info = MessageInfo(
        id=request.id,
        chat=request.chat,
        sender=request.sender,
        sender_name=request.sender_name,
        sent_at=request.sent_at,
        is_group=request.is_group,
    )
    context = MessageContext(
        me=request.me,
        people=request.people,
        earlier=lambda id: _unwrapped_or_none(request.earlier.get(id)),
        selected_options=request.selected_options,
        is_self_chat=request.chat in request.me,
    )
    message = to_message(request.content, info, context, file=_file(request))
    return NO_MESSAGE if message is None else encode(message)


def _unwrapped_or_none(content: Json | None) -> Json | None:
    return None if content is None else unwrapped(content)[0]


def _file(request: Request) -> File | None:
    content = unwrapped(request.content)[0]
    media = as_mapping(content.get(media_of(content) or ""))
    if not media:
        return None
    return File(
        ref=request.id,
        name=as_text(media.get("fileName")),
        media_type=as_text(media.get("mimetype")).partition(";")[0],
        size=request.file_bytes,
    )


if __name__ == "__main__":
    main()
