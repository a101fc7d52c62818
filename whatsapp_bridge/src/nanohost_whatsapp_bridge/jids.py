"""Pure decisions about WhatsApp's ids of people and chats (JIDs, `user@server`).

A person has two ids: a phone number (`49170…@s.whatsapp.net`) and a hidden id (`…@lid`). Messages carry either, often
both. The phone number is preferred, because it is what an operator can write down; the hidden id is used only where no
phone number is known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

PHONE_SERVER = "s.whatsapp.net"
HIDDEN_SERVER = "lid"
_NOT_CHATS = ("broadcast", "newsletter")


def without_device(jid: str) -> str:
    """`user:3@server` → `user@server`."""
    user, _, server = jid.rpartition("@")
    return f"{user.partition(':')[0].partition('.')[0]}@{server}" if user else jid


def preferred_jid(*jids: str) -> str:
    """The id to use, of all that are known for one person; empty ids do not count."""
    known = [without_device(jid) for jid in jids if jid.rpartition("@")[0]]
    by_phone = [jid for jid in known if jid.endswith(f"@{PHONE_SERVER}")]
    return (by_phone or known or [""])[0]


def strip_mention(text: str, me: Collection[str]) -> str:
    """A text without the mention of ourselves in front, so that a command after it is found: `@49123 /stop`. A mention
    alone stays."""
    for jid in me:
        user = jid.rpartition("@")[0]
        first, *rest = text.split(maxsplit=1) or [""]
        if user and rest and first.rstrip(",:") == f"@{user}":
            return rest[0]
    return text


def is_chat(jid: str) -> bool:
    """Whether people talk there: not a status, a broadcast list or a newsletter."""
    return jid.rpartition("@")[2] not in _NOT_CHATS


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSource:
    """Where a message came from, as WhatsApp tells it; `sender_alt` is the sender's other id and may be empty."""

    chat: str
    sender: str
    sender_alt: str = ""
    from_me: bool = False
    is_group: bool = False


def is_for_us(source: MessageSource, me: tuple[str, ...]) -> bool:
    """Whether the host is told: of somebody else's message, and of the account's note to itself. Not of what its person
    writes to others."""
    if not is_chat(source.chat):
        return False
    return not source.from_me or (not source.is_group and without_device(source.chat) in me)


def may_change(kind: str, *, author: str | None, sender: str, is_admin: bool) -> bool:
    """Whether the sender may do this to a message. A change can name any message; the apps honour those of its author,
    and in a group deletions of its admins. The author is None for a message that is not remembered."""
    if kind not in ("edit", "deletion"):
        return True
    return author in (None, sender) or (kind == "deletion" and is_admin)


def is_media_path(path: str) -> bool:
    """Whether a file that a message names can only be on WhatsApp's servers. The path is put behind the name of one of
    their hosts as it is, so anything but a slash in front would make it another host's."""
    return path.startswith("/")
