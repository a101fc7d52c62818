"""Whatever an agent writes becomes messages that the platform takes, and every word arrives, in order."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanohost.rendering import Form, Limits, Unit, split
from tests.rendering.checkers import check, words
from tests.rendering.documents import documents, hostile_texts, plain_letters

NATIVE = {
    Form.PLAIN: Limits(text=4096, unit=Unit.BYTES),
    Form.MARKDOWN: Limits(text=65_536),
    Form.TELEGRAM: Limits(text=4096, unit=Unit.UTF16, counted_after_parsing=True, entities=100),
    Form.SLACK_MARKDOWN: Limits(text=11_000),
    Form.SLACK: Limits(text=4000),
    Form.DISCORD: Limits(text=2000),
    Form.WHATSAPP: Limits(text=4096),
}

some_limits = st.builds(
    lambda form, size, unit: (
        form,
        NATIVE[form]
        if size == 0
        else Limits(
            text=size,
            unit=unit,
            counted_after_parsing=NATIVE[form].counted_after_parsing,
            entities=NATIVE[form].entities and size // 5,
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
def test_every_part_is_a_message_that_the_platform_takes(document: str, target: tuple[Form, Limits]) -> None:
    form, limits = target
    parts = split(document, form, limits)
    assert parts
    for part in parts:
        check(part, form, limits)
    assert split(document, form, limits) == parts


@pytest.mark.behaviour("DL-06")
@quick
@given(documents, some_limits)
def test_no_word_is_lost_or_moved(document: str, target: tuple[Form, Limits]) -> None:
    form, limits = target
    parts = split(document, form, limits)
    assert words("".join(part.plain for part in parts)) == words(document)
    assert words("".join(part.text for part in parts)) == words(document)


@pytest.mark.behaviour("DL-06", "DL-12")
@quick
@given(hostile_texts, some_limits)
def test_any_text_becomes_messages(text: str, target: tuple[Form, Limits]) -> None:
    form, limits = target
    parts = split(text, form, limits)
    assert bool(parts) == bool(text.strip())
    for part in parts:
        check(part, form, limits)


@pytest.mark.behaviour("DL-06")
@quick
@given(plain_letters)
def test_marks_swallow_no_letter(text: str) -> None:
    parts = split(text, Form.PLAIN, Limits(text=60))
    assert re.findall(r"[abc]", "".join(part.plain for part in parts)) == re.findall(r"[abc]", text)
