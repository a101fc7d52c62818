"""What the person who waits is told when no container can answer. They may be anybody: no path of this machine."""

from __future__ import annotations

from nanohost.errors import RuntimeUnavailable, SpawnError

UNNAMED = "I cannot work right now. I keep your message and try again; the operator's log says why."
CRASHES = "I broke down before I could look at your message. I keep it and try again; the operator's log says why."


def no_container(error: Exception) -> str:
    """Why no container was started, where that is about this machine at large and names no place on it."""
    if not isinstance(error, (SpawnError, RuntimeUnavailable)) or _names_a_path(str(error)):
        return UNNAMED
    hint = f" (For the operator: {error.hint})" if error.hint and not _names_a_path(error.hint) else ""
    return f"I cannot work right now: {str(error).rstrip('.')}. I keep your message and try again.{hint}"


def _names_a_path(text: str) -> bool:
    return "/" in text
