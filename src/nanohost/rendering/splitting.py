"""Splits a text into the messages that a platform takes: parses, escapes mentions, cuts, renders."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from nanohost.rendering.blocks import Block, BlockKind, Run, Style, code_block
from nanohost.rendering.dialects import DIALECTS, PLAIN
from nanohost.rendering.measure import Measure, Size
from nanohost.rendering.mentions import escape_mentions
from nanohost.rendering.message_form import Form, Limits, MessagePart, text_length
from nanohost.rendering.parsing import parse, plain_text


def split_message(markdown: str, form: Form, limits: Limits) -> tuple[MessagePart, ...]:
    """Returns the messages in order: at least one for a text that is not blank, each within the limit.

    The same text always gives the same parts. MARKDOWN that fits is left as it was written. Links are made of http,
    https, mailto and tg addresses; others are shown as text. A text above 200,000 characters is not read as Markdown.
    """
    text = markdown.encode("utf-8", "replace").decode("utf-8")
    if form is Form.MARKDOWN and text.strip() and text_length(text, limits.unit) <= limits.max_length:
        return (MessagePart(text=text, plain=text),)
    dialect = DIALECTS[form]
    cuts = split_blocks(escape_mentions(parse(text), form), Measure(dialect, limits))
    parts = (MessagePart(text=dialect.render_part(pieces), plain=PLAIN.render_part(pieces)) for pieces in cuts)
    # The empty lines of a long code block can become a part of their own, which no platform accepts.
    return tuple(part for part in parts if part.plain.strip())


_LINK_PLACEHOLDER = "\ufffc"
_SENTENCE_END = re.compile("[.!?\u2026][\"')\\]\u00bb\u201d\u2019]*\\s|[\u3002\uff01\uff1f]")
_SPACE = re.compile(r"\s")


def split_blocks(blocks: Iterable[Block], measure: Measure) -> list[list[Block]]:
    """Returns the parts in order; none is empty, and none exceeds the limits."""
    waiting = deque(blocks)
    parts: list[list[Block]] = []
    part: list[Block] = []
    left = measure.max_size
    while waiting:
        piece = waiting.popleft()
        room = left - measure.separator_size(part[-1], piece) if part else left
        size = measure.block_size(piece)
        if size.fits(room):
            part.append(piece)
            left = room - size
            continue
        # A piece that fits into a part of its own is not cut; neither is one of which too little would fit here.
        is_kept = part and (size.fits(measure.max_size) or not room.is_half_of(measure.max_size))
        head, tail = (None, piece) if is_kept else _split_block(piece, room, measure)
        if head is not None:
            part.append(head)
        elif not part:
            head, tail = _split_unstyled(piece, measure)
            part.append(head)
        elif part[-1].kind is BlockKind.HEADING and len(part) > 1:
            waiting.appendleft(tail or piece)
            tail = part.pop()
        parts.append(part)
        part, left = [], measure.max_size
        if tail is not None:
            waiting.appendleft(tail)
    return [*parts, part] if part else parts


def _split_block(piece: Block, available: Size, measure: Measure) -> tuple[Block | None, Block | None]:
    """Returns the part of a block that fits into `available`, and the rest; the first is None if nothing fits."""
    if piece.kind is BlockKind.TABLE:
        piece = code_block(piece.text)
    return (
        _split_code(piece, available, measure)
        if piece.kind is BlockKind.CODE
        else _split_text(piece, available, measure)
    )


def _split_unstyled(piece: Block, measure: Measure) -> tuple[Block, Block | None]:
    """Splits a block of which nothing fits even into an empty message, without its markers and styles."""
    bare = Block(runs=tuple(Run(plain_text(run)) for run in piece.runs))
    in_place = replace(piece, kind=bare.kind, runs=bare.runs, language="", level=0, rows=(), is_tight=False)
    head, tail = _split_text(in_place, measure.max_size, measure)
    if head is None:
        head, tail = _split_text(bare, measure.max_size, measure)
    assert head is not None, "the smallest limit holds a character"
    return head, tail


def _split_code(piece: Block, available: Size, measure: Measure) -> tuple[Block | None, Block | None]:
    text = piece.text
    most = min(len(text), available.length)
    fitting = _bisect_max(
        most, lambda count: measure.block_size(code_block(text[:count], piece.language)).fits(available)
    )
    if fitting == len(text):
        return piece, None
    if not fitting:
        return None, piece
    line_end = text.rfind("\n", fitting // 4, fitting + 1)
    if line_end > 0:
        return code_block(text[:line_end], piece.language), code_block(text[line_end + 1 :], piece.language)
    at = _grapheme_boundary(text, fitting)
    return code_block(text[:at], piece.language), code_block(text[at:], piece.language)


def _split_text(piece: Block, available: Size, measure: Measure) -> tuple[Block | None, Block | None]:
    # Each run has at least one character, so only a limited number of runs can fit.
    runs, others = (
        _unlink_too_long(piece, piece.runs[: available.length + 1], measure),
        piece.runs[available.length + 1 :],
    )
    styled = measure.dialect.styled_runs(replace(piece, runs=runs))
    margin, rest_margin = measure.prefix_size(piece)
    left = available - margin
    window: list[str] = []
    for run in styled:
        if len(run.text) <= left.length and (size := measure.run_size(run, rest_margin)).fits(left):
            window.append(_LINK_PLACEHOLDER * len(run.text) if run.href else run.text)
            left = left - size
            continue
        if not run.href:
            window.append(run.text[: _count_fitting_chars(run, left, rest_margin, measure)])
        break
    fitting = "".join(window)
    if len(fitting) == sum(len(run.text) for run in runs) and not others:
        return replace(piece, runs=runs), None
    at = _find_break(fitting, _character_after(runs, len(fitting)))
    return _split_at(replace(piece, runs=runs), at, others) if at else (None, piece)


def _count_fitting_chars(run: Run, left: Size, rest_margin: int, measure: Measure) -> int:
    """Returns how many characters of a run fit."""
    return _bisect_max(
        min(len(run.text), max(0, left.length)),
        lambda count: measure.run_size(Run(run.text[:count], run.style), rest_margin).fits(left),
    )


def _unlink_too_long(piece: Block, runs: tuple[Run, ...], measure: Measure) -> tuple[Run, ...]:
    """Replaces a link that fits into no message by its label and address as text, which can be split."""
    margin, rest_margin = measure.prefix_size(piece)
    room = measure.max_size - margin
    return tuple(
        Run(plain_text(run), run.style & ~Style.CODE)
        if run.href and not measure.run_size(run, rest_margin).fits(room)
        else run
        for run in runs
    )


def _split_at(piece: Block, at: int, others: tuple[Run, ...]) -> tuple[Block | None, Block | None]:
    """Splits a block at a character; `others` follow it. Removes white space at the split."""
    before: list[Run] = []
    after: list[Run] = []
    for run in piece.runs:
        if at > 0:
            before.append(Run(run.text[:at], run.style, run.href))
        if at < len(run.text):
            after.append(Run(run.text[max(0, at) :], run.style, run.href))
        at -= len(run.text)
    before[-1] = replace(before[-1], text=before[-1].text.rstrip())
    while after and not after[0].text.strip():
        del after[0]
    head = replace(piece, runs=tuple(before))
    if not after and not others:
        return head, None
    if after:
        after[0] = replace(after[0], text=after[0].text.lstrip())
    indent = piece.indent + (len(piece.marker) + 1 if piece.marker else 0)
    return head, replace(piece, runs=(*after, *others), marker="", indent=indent, is_tight=False)


def _bisect_max(upper: int, fits: Callable[[int], bool]) -> int:
    """Returns the largest count that fits, within a thirtieth, by bisection; 0 if none fits."""
    if fits(upper):
        return upper
    least, upper = 0, upper - 1
    while upper - least > least // 32:
        middle = (least + upper + 1) // 2
        if fits(middle):
            least = middle
        else:
            upper = middle - 1
    return least


def _find_break(text: str, following: str) -> int:
    """Returns where to split a text before `following`: after a line, a sentence, or a word; else at the end."""
    line_end = text.rfind("\n")
    if line_end > len(text) // 2:
        return line_end
    sentences = [found.end() for found in _SENTENCE_END.finditer(text, len(text) // 2)]
    if sentences:
        return sentences[-1]
    if following.isspace() or following == _LINK_PLACEHOLDER:
        return len(text)
    spaces = [found.end() for found in _SPACE.finditer(text, len(text) // 4)]
    return spaces[-1] if spaces else _grapheme_boundary(text + following, len(text))


def _character_after(runs: tuple[Run, ...], at: int) -> str:
    for run in runs:
        if at < len(run.text):
            return _LINK_PLACEHOLDER if run.href else run.text[at]
        at -= len(run.text)
    return ""


def _grapheme_boundary(text: str, at: int) -> int:
    """Returns the nearest position at or before `at` that does not separate a character from its modifiers."""
    place = at
    while 0 < place < len(text) and (_is_combining(text[place]) or text[place - 1] == "\u200d"):
        place -= 1
    return place if at - place < 32 and place else at


def _is_combining(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf") or "\U0001f3fb" <= character <= "\U0001f3ff"
