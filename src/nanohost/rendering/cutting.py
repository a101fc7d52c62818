"""Pieces into parts: as much into each as fits, and what is too long for one is cut where a reader would pause."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from nanohost.rendering.gauge import Gauge, Size
from nanohost.rendering.parsing import in_words
from nanohost.rendering.pieces import Kind, Piece, Run, Style, code

_LINK_STAND_IN = "\ufffc"
_SENTENCE_END = re.compile("[.!?\u2026][\"')\\]\u00bb\u201d\u2019]*\\s|[\u3002\uff01\uff1f]")
_SPACE = re.compile(r"\s")


def cut(pieces: Iterable[Piece], gauge: Gauge) -> list[list[Piece]]:
    """The parts in order; none is empty, and none is larger than the limits."""
    waiting = deque(pieces)
    parts: list[list[Piece]] = []
    part: list[Piece] = []
    left = gauge.whole
    while waiting:
        piece = waiting.popleft()
        room = left - gauge.joint(part[-1], piece) if part else left
        size = gauge.piece(piece)
        if size.fits(room):
            part.append(piece)
            left = room - size
            continue
        # A piece that fits into a part of its own is not cut; neither is one of which too little would fit here.
        is_kept = part and (size.fits(gauge.whole) or not room.is_much_of(gauge.whole))
        head, tail = (None, piece) if is_kept else _divided(piece, room, gauge)
        if head is not None:
            part.append(head)
        elif not part:
            head, tail = _last_resort(piece, gauge)
            part.append(head)
        elif part[-1].kind is Kind.HEADING and len(part) > 1:
            waiting.appendleft(tail or piece)
            tail = part.pop()
        parts.append(part)
        part, left = [], gauge.whole
        if tail is not None:
            waiting.appendleft(tail)
    return [*parts, part] if part else parts


def _divided(piece: Piece, room: Size, gauge: Gauge) -> tuple[Piece | None, Piece | None]:
    """What of a piece fits into `room`, and the rest; no head when nothing does."""
    if piece.kind is Kind.TABLE:
        piece = code(piece.text)
    return _divided_code(piece, room, gauge) if piece.kind is Kind.CODE else _divided_text(piece, room, gauge)


def _last_resort(piece: Piece, gauge: Gauge) -> tuple[Piece, Piece | None]:
    """A piece of which nothing fits even into a part of its own loses what stands around its words."""
    bare = Piece(runs=tuple(Run(in_words(run)) for run in piece.runs))
    in_place = replace(piece, kind=bare.kind, runs=bare.runs, language="", level=0, rows=(), tight=False)
    head, tail = _divided_text(in_place, gauge.whole, gauge)
    if head is None:
        head, tail = _divided_text(bare, gauge.whole, gauge)
    assert head is not None, "the smallest limit holds a character"
    return head, tail


def _divided_code(piece: Piece, room: Size, gauge: Gauge) -> tuple[Piece | None, Piece | None]:
    text = piece.text
    most = min(len(text), room.length)
    fitting = _most(most, lambda count: gauge.piece(code(text[:count], piece.language)).fits(room))
    if fitting == len(text):
        return piece, None
    if not fitting:
        return None, piece
    line_end = text.rfind("\n", fitting // 4, fitting + 1)
    if line_end > 0:
        return code(text[:line_end], piece.language), code(text[line_end + 1 :], piece.language)
    at = _whole_character(text, fitting)
    return code(text[:at], piece.language), code(text[at:], piece.language)


def _divided_text(piece: Piece, room: Size, gauge: Gauge) -> tuple[Piece | None, Piece | None]:
    # Each run has a character at least: only so many can matter, however many there are.
    runs, others = _linkless_where_too_long(piece, piece.runs[: room.length + 1], gauge), piece.runs[room.length + 1 :]
    styled = gauge.dialect.styled(replace(piece, runs=runs))
    margin, rest_margin = gauge.margin(piece)
    left = room - margin
    window: list[str] = []
    for run in styled:
        if len(run.text) <= left.length and (size := gauge.run(run, rest_margin)).fits(left):
            window.append(_LINK_STAND_IN * len(run.text) if run.href else run.text)
            left = left - size
            continue
        if not run.href:
            window.append(run.text[: _fitting(run, left, rest_margin, gauge)])
        break
    fitting = "".join(window)
    if len(fitting) == sum(len(run.text) for run in runs) and not others:
        return replace(piece, runs=runs), None
    at = _pause(fitting, _character_after(runs, len(fitting)))
    return _parted(replace(piece, runs=runs), at, others) if at else (None, piece)


def _fitting(run: Run, left: Size, rest_margin: int, gauge: Gauge) -> int:
    """How many characters of a run fit."""
    return _most(
        min(len(run.text), max(0, left.length)),
        lambda count: gauge.run(Run(run.text[:count], run.style), rest_margin).fits(left),
    )


def _linkless_where_too_long(piece: Piece, runs: tuple[Run, ...], gauge: Gauge) -> tuple[Run, ...]:
    """A link that no part can hold becomes its words and its address, which can be cut."""
    margin, rest_margin = gauge.margin(piece)
    room = gauge.whole - margin
    return tuple(
        Run(in_words(run), run.style & ~Style.CODE) if run.href and not gauge.run(run, rest_margin).fits(room) else run
        for run in runs
    )


def _parted(piece: Piece, at: int, others: tuple[Run, ...]) -> tuple[Piece | None, Piece | None]:
    """The piece before and after a character, which `others` follow; white space at the cut goes."""
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
    return head, replace(piece, runs=(*after, *others), marker="", indent=indent, tight=False)


def _most(most: int, fits: Callable[[int], bool]) -> int:
    """The largest count that fits, give or take a thirtieth, found by halving; 0 when none does."""
    if fits(most):
        return most
    least, most = 0, most - 1
    while most - least > least // 32:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least


def _pause(text: str, following: str) -> int:
    """Where to cut a text that is followed by another character: after a line, a sentence, a word; else at the end."""
    line_end = text.rfind("\n")
    if line_end > len(text) // 2:
        return line_end
    sentences = [found.end() for found in _SENTENCE_END.finditer(text, len(text) // 2)]
    if sentences:
        return sentences[-1]
    if following.isspace() or following == _LINK_STAND_IN:
        return len(text)
    spaces = [found.end() for found in _SPACE.finditer(text, len(text) // 4)]
    return spaces[-1] if spaces else _whole_character(text + following, len(text))


def _character_after(runs: tuple[Run, ...], at: int) -> str:
    for run in runs:
        if at < len(run.text):
            return _LINK_STAND_IN if run.href else run.text[at]
        at -= len(run.text)
    return ""


def _whole_character(text: str, at: int) -> int:
    """The place nearest before `at` that does not tear a character from what modifies it."""
    place = at
    while 0 < place < len(text) and (_modifies(text[place]) or text[place - 1] == "\u200d"):
        place -= 1
    return place if at - place < 32 and place else at


def _modifies(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf") or "\U0001f3fb" <= character <= "\U0001f3ff"
