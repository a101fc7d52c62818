"""Escapes mentions, so that a platform pings nobody.

A zero-width space is inserted after the `@` or `<`, so that the text looks the same. This is done before splitting and
across styles, in code and in text: a split can only break a mention, never create one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from nanohost.rendering.blocks import ZERO_WIDTH_SPACE, Block, Run
from nanohost.rendering.message_form import Form

_MENTIONING_FORMS = frozenset({Form.DISCORD, Form.SLACK, Form.SLACK_MARKDOWN})
_MENTION = re.compile(r"@(?=everyone|here|channel)|<(?=[@#!&])", re.IGNORECASE)
_MENTION_IN_URL = re.compile(r"@(?=everyone|here|channel)", re.IGNORECASE)


def escape_mentions(blocks: Iterable[Block], form: Form) -> Iterator[Block]:
    if form not in _MENTIONING_FORMS:
        yield from blocks
        return
    for piece in blocks:
        rows = tuple(tuple(_escape_runs(cell) for cell in row) for row in piece.rows)
        yield replace(piece, runs=_escape_runs(piece.runs), rows=rows)


def _escape_runs(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    calls = [found.end() for found in _MENTION.finditer("".join(run.text for run in runs))]
    if not calls and not any("@" in run.href for run in runs):
        return runs
    quiet: list[Run] = []
    start = 0
    for run in runs:
        end = start + len(run.text)
        inside = [call - start for call in calls if start < call <= end]
        quiet.append(Run(_insert_breaks(run.text, inside), run.style, _MENTION_IN_URL.sub("%40", run.href)))
        start = end
    return tuple(quiet)


def _insert_breaks(text: str, positions: list[int]) -> str:
    borders = [0, *positions, len(text)]
    return ZERO_WIDTH_SPACE.join(text[left:right] for left, right in pairwise(borders))
