"""Pure decisions about WhatsApp's names for people, and about what its errors mean.

A person has two names: a phone number (`49170…@s.whatsapp.net`) and a hidden id (`…@lid`). Messages carry either, often
both. The phone number is the one we go by, because it is what an operator can write down; the hidden id only where no
phone number is known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nanohost.wa_bridge.protocol import Reason

PHONE_SERVER = "s.whatsapp.net"
HIDDEN_SERVER = "lid"
_NO_CHATS = ("broadcast", "newsletter")


def bare(jid: str) -> str:
    """Without the device: `user:3@server` → `user@server`."""
    user, _, server = jid.rpartition("@")
    return f"{user.partition(':')[0].partition('.')[0]}@{server}" if user else jid


def person(*names: str) -> str:
    """The name to go by, of all that are known for one person; empty names do not count."""
    known = [bare(name) for name in names if name.rpartition("@")[0]]
    by_phone = [name for name in known if name.endswith(f"@{PHONE_SERVER}")]
    return (by_phone or known or [""])[0]


def without_name(text: str, me: Collection[str]) -> str:
    """A text without our name in front, so that what follows is heard as it is meant: `@49123 /stop`. A name alone
    stays."""
    for jid in me:
        user = jid.rpartition("@")[0]
        first, *rest = text.split(maxsplit=1) or [""]
        if user and rest and first.rstrip(",:") == f"@{user}":
            return rest[0]
    return text


def is_chat(jid: str) -> bool:
    """Whether people talk there: not a status, a broadcast list or a newsletter."""
    return jid.rpartition("@")[2] not in _NO_CHATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a message came from, as WhatsApp says it; the alternative may be empty."""

    chat: str
    sender: str
    sender_alt: str = ""
    from_me: bool = False
    is_group: bool = False


def is_for_us(source: Source, me: tuple[str, ...]) -> bool:
    """Somebody else's message, or our own person's note to themself. Not what they write to others elsewhere."""
    if not is_chat(source.chat):
        return False
    return not source.from_me or (not source.is_group and bare(source.chat) in me)


def may_change(kind: str, *, author: str | None, sender: str, is_admin: bool) -> bool:
    """Whether the sender may do this to a message. Whoever writes can name any message in it; the apps heed its author,
    and in a group its admins when they delete. Of what is not remembered the author is not known."""
    if kind not in ("edit", "deletion"):
        return True
    return author in (None, sender) or (kind == "deletion" and is_admin)


def is_media_path(path: str) -> bool:
    """Whether a file that a message names can only lie with WhatsApp. The path is put behind the name of a host of
    theirs as it is, so anything but a slash in front would make it another host's."""
    return path.startswith("/")


_MEANINGS: tuple[tuple[tuple[str, ...], Reason], ...] = (
    (("logged out", "not logged in", "store doesn't contain a device jid"), "auth"),
    (("429", "rate-overlimit", "rate limit"), "rate_limited"),
    (("timed out", "timeout", "deadline", "disconnected", "interrupted", "eof", "reset by peer"), "ambiguous"),
    (("server returned error 5",), "server_error"),  # 500, 503
    (
        ("not connected", "client is nil", "failed to dial", "no such host", "upload", "device list", "no route"),
        "not_sent",
    ),
    (
        ("server returned error", "unknown server", "no signal session", "too large", "invalid", "not in group"),
        "refused",
    ),
)


def meaning(error: str) -> Reason:
    """What became of a message that the library raised this for. What nobody knows may have been sent."""
    text = error.lower()
    for words, reason in _MEANINGS:
        if any(word in text for word in words):
            return reason
    return "ambiguous"


def why_not_sent(error: str) -> Reason:
    """The same for what surely was not sent."""
    return "server_error" if meaning(error) == "server_error" else "not_sent"
