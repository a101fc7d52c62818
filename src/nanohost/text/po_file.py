"""Reads gettext's .po files and compiles them in memory. Pure.

The standard library reads compiled catalogues only (.mo); an install adds a language as a text file.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_MAGIC = 0x950412DE
_HEADER_BYTES = 28


class PoError(ValueError):
    """A .po file that cannot be read. Its text names the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoEntry:
    """A sentence and its translation; `translations` has one a plural form. `message` is "" for the file's header."""

    message: str
    plural: str
    translations: tuple[str, ...]
    line: int


@dataclass(slots=True)
class _Draft:
    """An entry while it is read."""

    fields: dict[str, str] = field(default_factory=dict)
    line: int = 0
    is_fuzzy: bool = False


def parse_po(text: str) -> list[PoEntry]:
    """The translated entries of a file, its header among them. Those without a translation and those marked as fuzzy
    are left out. Raises PoError."""
    found: list[PoEntry] = []
    draft, last, fuzzy = _Draft(), "", False
    for number, raw in enumerate([*text.removeprefix("\ufeff").splitlines(), "msgid"], 1):
        line = raw.strip()
        if line.startswith("#") or not line:
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line)
            continue
        keyword, _, quoted = ("", "", line) if line.startswith('"') else line.partition(" ")
        if keyword == "msgid":
            found += _finish(draft)
            draft, fuzzy = _Draft(line=number, is_fuzzy=fuzzy), False
            if not quoted:
                continue
        _add_text(draft, keyword or last, quoted, number)
        last = keyword or last
    return found


def _add_text(draft: _Draft, keyword: str, quoted: str, line: int) -> None:
    if keyword not in ("msgid", "msgid_plural", "msgstr") and not keyword.startswith("msgstr["):
        raise PoError(f"line {line}: {keyword or 'text'} is not understood")
    try:
        value = ast.literal_eval(quoted.strip())
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, str):
        raise PoError(f"line {line}: the text is not in quotation marks")
    draft.fields[keyword] = draft.fields.get(keyword, "") + value


def _finish(draft: _Draft) -> list[PoEntry]:
    forms = [draft.fields[name] for name in sorted(draft.fields) if name.startswith("msgstr")]
    message = draft.fields.get("msgid")
    if message is None or (draft.is_fuzzy and message) or not forms or not all(forms):
        return []
    plural = draft.fields.get("msgid_plural", "")
    return [PoEntry(message=message, plural=plural, translations=tuple(forms), line=draft.line)]


def compile_entries(entries: Iterable[PoEntry]) -> bytes:
    """The entries as the compiled catalogue that `gettext.GNUTranslations` reads."""
    pairs = sorted(
        (f"{one.message}\0{one.plural}" if one.plural else one.message, "\0".join(one.translations)) for one in entries
    )
    keys, values = [key.encode() for key, _ in pairs], [value.encode() for _, value in pairs]
    start = _HEADER_BYTES + 16 * len(pairs)
    key_table, after = _lay_out(keys, start)
    value_table, _ = _lay_out(values, after)
    header = struct.pack("<7I", _MAGIC, 0, len(pairs), _HEADER_BYTES, _HEADER_BYTES + 8 * len(pairs), 0, 0)
    return b"".join([header, key_table, value_table, *(text + b"\0" for text in (*keys, *values))])


def _lay_out(texts: Sequence[bytes], offset: int) -> tuple[bytes, int]:
    """The table of lengths and offsets of these texts, and where the next text begins."""
    table = b""
    for text in texts:
        table += struct.pack("<2I", len(text), offset)
        offset += len(text) + 1
    return table, offset


def quote_po(text: str) -> str:
    """A text as a .po file has it, a line of the text in a line of the file."""
    escaped = [line.replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")]
    lines = [f'"{line}\\n"' for line in escaped[:-1]] + (
        [f'"{escaped[-1]}"'] if escaped[-1] or len(escaped) == 1 else []
    )
    return lines[0] if len(lines) == 1 else "\n".join(['""', *lines])
