"""What the library's errors mean for a message. Pure."""

from __future__ import annotations

from nanohost_whatsapp_bridge.protocol import Reason

_REASONS: tuple[tuple[tuple[str, ...], Reason], ...] = (
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


def classify_error(error: str) -> Reason:
    """The outcome for a message that the library raised this for. An unknown error is ambiguous: it may have been
    sent."""
    text = error.lower()
    for words, reason in _REASONS:
        if any(word in text for word in words):
            return reason
    return "ambiguous"


def classify_unsent(error: str) -> Reason:
    """The same for a message that was certainly not sent."""
    return "server_error" if classify_error(error) == "server_error" else "not_sent"
