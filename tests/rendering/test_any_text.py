"""Any text of an agent becomes messages that the platform accepts, and every word arrives, in order."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanohost.rendering import Form, Limits, MessagePart, Unit, split_message
from nanohost.rendering.blocks import Block, Run, Style
from nanohost.rendering.dialects import DIALECTS
from tests.rendering.checkers import check_part, words_in
from tests.rendering.documents import documents, hostile_texts, plain_letters
from tests.rendering.readers import read_as_person

NATIVE = {
    Form.PLAIN: Limits(max_length=4096, unit=Unit.BYTES),
    Form.MARKDOWN: Limits(max_length=65_536),
    Form.TELEGRAM: Limits(max_length=4096, unit=Unit.UTF16, is_counted_after_parsing=True, max_entities=100),
    Form.SLACK_MARKDOWN: Limits(max_length=11_000),
    Form.SLACK: Limits(max_length=4000),
    Form.DISCORD: Limits(max_length=2000),
    Form.WHATSAPP: Limits(max_length=4096),
}

some_limits = st.builds(
    lambda form, size, unit: (
        form,
        NATIVE[form]
        if size == 0
        else Limits(
            max_length=size,
            unit=unit,
            is_counted_after_parsing=NATIVE[form].is_counted_after_parsing,
            max_entities=NATIVE[form].max_entities and size // 5,
        ),
    ),
    st.sampled_from(Form),
    st.sampled_from([50, 60, 200, 0]),
    st.sampled_from(Unit),
)
quick = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.behaviour("DL-06", "DL-12")
@quick
@given(documents, some_limits)
def test_every_part_is_a_message_that_the_platform_accepts(document: str, target: tuple[Form, Limits]) -> None:
    form, limits = target
    parts = split_message(document, form, limits)
    assert parts
    for part in parts:
        check_part(part, form, limits)
    assert split_message(document, form, limits) == parts


@pytest.mark.behaviour("DL-06")
@quick
@given(documents, some_limits)
def test_no_word_is_lost_or_moved(document: str, target: tuple[Form, Limits]) -> None:
    form, limits = target
    parts = split_message(document, form, limits)
    assert words_in("".join(part.plain for part in parts)) == words_in(document)
    assert words_in("".join(part.text for part in parts)) == words_in(document)


@pytest.mark.behaviour("DL-06", "DL-12")
@quick
@given(hostile_texts, some_limits)
def test_any_text_is_rendered_as_messages(text: str, target: tuple[Form, Limits]) -> None:
    form, limits = target
    parts = split_message(text, form, limits)
    assert bool(parts) == bool(text.strip())
    for part in parts:
        check_part(part, form, limits)


@pytest.mark.behaviour("DL-06")
@quick
@given(plain_letters)
def test_formatting_marks_swallow_no_letter(text: str) -> None:
    parts = split_message(text, Form.PLAIN, Limits(max_length=60))
    assert re.findall(r"[abc]", "".join(part.plain for part in parts)) == re.findall(r"[abc]", text)


runs = st.lists(
    st.tuples(
        st.text(
            alphabet="ab\u4e2d\uff1a\u3002\uff08\uff09\u201c\u201d:.,()!'\u00e9\U0001f44d 1", min_size=1, max_size=5
        ),
        st.sampled_from([Style.NONE, Style.BOLD, Style.ITALIC, Style.STRIKE, Style.BOLD | Style.ITALIC, Style.CODE]),
    ),
    min_size=1,
    max_size=5,
)
read_forms = st.sampled_from([Form.SLACK_MARKDOWN, Form.DISCORD, Form.SLACK, Form.WHATSAPP, Form.TELEGRAM])


@pytest.mark.behaviour("DL-12")
@settings(quick, max_examples=400)
@given(runs, read_forms)
def test_formatting_is_read_as_such_whatever_stands_beside_it(made: list[tuple[str, Style]], form: Form) -> None:
    styled = [Run(text, style) for text, style in made]
    written = DIALECTS[form].render_part([Block(runs=tuple(styled))])
    shown = read_as_person(MessagePart(text=written, plain=""), form)
    assert _unspaced(shown) == _unspaced("".join(run.text for run in styled))


def _unspaced(text: str) -> str:
    return "".join(text.replace("\u200b", "").split())
