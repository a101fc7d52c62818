"""What the person who waits is told when no container can answer. They may be anybody: no path of this machine."""

from __future__ import annotations

from nanohost.errors import RuntimeUnavailable, SpawnError

START_FAILURE_NOTICE = "I cannot work right now. I keep your message and try again; the operator's log says why."
CRASH_NOTICE = "I broke down before I could look at your message. I keep it and try again; the operator's log says why."

_COMMAND_HINTS = (
    ("its key", "nanohost model set"),
    (
        "none of its name",  # which no check finds out: it sends none
        "[agent] model, or nanohost groups update GROUP --model NAME where the agent has one of its own; nanohost model"
        " check tries the address",
    ),
    ("my model", "nanohost model check"),
)
"""What an operator types about a sentence with these words in it: the runner's own (agent_runner.failures), too."""


def start_failure_notice(error: Exception) -> str:
    """Why no container was started, where that is about this machine at large and names no place on it."""
    if not isinstance(error, (SpawnError, RuntimeUnavailable)) or _contains_path(str(error)):
        return START_FAILURE_NOTICE
    hint = f" (For the operator: {error.hint})" if error.hint and not _contains_path(error.hint) else ""
    return f"I cannot work right now: {str(error).rstrip('.')}. I keep your message and try again.{hint}"


def with_operator_hint(text: str) -> str:
    """What sends people to the operator, for the operator at the machine: with what to type."""
    words = text.casefold()
    if "the operator" not in words or "for the operator:" in words:
        return text
    do = next((do for about, do in _COMMAND_HINTS if about in words), "nanohost status")
    return f"{text} In this terminal that is you: {do}"


def _contains_path(text: str) -> bool:
    return "/" in text
