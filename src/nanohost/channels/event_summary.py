"""Summarizes an event as text, for approvers and operators. Pure."""

from __future__ import annotations

from nanohost.channel_api import InboundEvent, Part, PartKind


def describe_event(event: InboundEvent) -> str:
    """Returns the sender's text, and a line for each part."""
    return "\n".join([*([event.text] if event.text else []), *map(_describe_part, event.parts)])


def _describe_part(part: Part) -> str:
    whose = f" from {part.author}" if part.author else ""
    where = f" in {part.chat}" if part.chat else ""
    match part.kind:
        case PartKind.QUOTED:
            return f"[a reply to a message{whose}{where}: {part.marked or part.text}]"
        case PartKind.FORWARDED:
            return f"[forwarded{whose}{where}: {part.text}]"
        case PartKind.LINK:
            return f"[{part.text}: {part.url}]"
        case PartKind.SHARED:
            return f"[{part.title}{whose}{where}: {part.text}]" if part.title else f"[{part.text}]"
