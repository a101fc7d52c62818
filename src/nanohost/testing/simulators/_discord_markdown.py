"""Discord's Markdown as far as a screen shows it: the marks are read, the words stay."""

from __future__ import annotations

import re

_CODE = re.compile(r"```(?:[A-Za-z0-9+#._-]*\n)?(.*?)```|``(.+?)``|`([^`]+)`", re.DOTALL)
_ESCAPED = re.compile(r"\\([^A-Za-z0-9\s])")
_LINK = re.compile(r"\[([^\]\n]+)\]\(<?(?:https?://[^\s>)]+(?:\([^\s)]*\))?[^\s>)]*)>?\)")
_BARE_LINK = re.compile(r"<(https?://[^\s>]+)>")
_STYLES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\*\*\*(\S(?:.*?\S)?)\*\*\*",
        r"\*\*(\S(?:.*?\S)?)\*\*",
        r"__(\S(?:.*?\S)?)__",
        r"~~(\S(?:.*?\S)?)~~",
        r"\|\|(\S(?:.*?\S)?)\|\|",
        r"\*(\S(?:.*?\S)?)\*",
        r"(?<!\w)_(\S(?:.*?\S)?)_(?!\w)",
    )
)
_LINE_START = re.compile(r"^(?:>>> |> |#{1,3} |-# )", re.MULTILINE)
_HIDDEN = 0xE000
"""Characters that are quarantined while the marks are read stand in the private area from here on."""


def shown(content: str) -> str:
    """What a person reads."""
    kept: list[str] = []

    def set_aside(text: str) -> str:
        kept.append(text)
        return chr(_HIDDEN + len(kept) - 1)

    def code(found: re.Match[str]) -> str:
        return set_aside(next(group for group in found.groups() if group is not None))

    # An escaped mark opens nothing, and in code nothing is escaped: whichever stands first wins.
    text = re.sub(
        rf"(?P<escaped>{_ESCAPED.pattern})|(?P<code>{_CODE.pattern})",
        lambda found: set_aside(found["escaped"][1:]) if found["escaped"] else code(_code_of(found)),
        content,
        flags=re.DOTALL,
    )
    text = _BARE_LINK.sub(lambda found: set_aside(found[1]), _LINK.sub(r"\1", text))
    text = _LINE_START.sub("", text)
    for style in _STYLES:
        text = style.sub(r"\1", text)
    for number in reversed(range(len(kept))):
        text = text.replace(chr(_HIDDEN + number), kept[number])
    return text


def _code_of(found: re.Match[str]) -> re.Match[str]:
    again = _CODE.fullmatch(found["code"])
    assert again is not None
    return again


def pings(content: str, allowed: dict[str, object] | None) -> frozenset[str]:
    """Whom a message notifies: everyone, here, people's ids; `allowed` is its allowed_mentions, None if it has none."""
    named = set(re.findall(r"@(everyone|here)\b", content)) | set(re.findall(r"<@[!&]?([0-9]+)>", content))
    if allowed is None:
        return frozenset(named)
    parse = allowed.get("parse")
    kinds = parse if isinstance(parse, list) else []
    by_name = {"everyone", "here"} if "everyone" in kinds else set()
    people = {name for name in named if name.isdigit()} if "users" in kinds or "roles" in kinds else set()
    listed = allowed.get("users")
    return frozenset(named & (by_name | people | set(listed if isinstance(listed, list) else [])))
