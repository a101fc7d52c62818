"""The fallback in words of an agent's row."""

from __future__ import annotations

import json

import pytest

from nanohost.delivery.render import content_problem, render


def content(**values: object) -> str:
    return json.dumps(values)


@pytest.mark.behaviour("DL-09")
@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("chat", content(text="hi *you*"), "hi *you*"),
        ("question", content(text="Which?", options=["red", "blue"]), "Which?\n1. red\n2. blue"),
        ("card", content(title="T", body="B", options=["go"]), "**T**\nB\n1. go"),
        ("card", content(title="T", body="B"), "**T**\nB"),
        ("file", content(name="a.txt", caption="look"), "[file: a.txt] look"),
        ("file", content(name="a.txt"), "[file: a.txt]"),
        ("file", content(name="a_b.txt"), "[file: a_b.txt]"),
        ("file", content(name="__init__.py", caption="*look*"), "[file: `__init__.py`] *look*"),
        ("chat", '{"text": "half \\ud800 a character"}', "half ? a character"),
        ("reaction", content(message=3, emoji="x"), None),
        ("system", content(action="a", arguments="{}"), None),
    ],
)
def test_each_message_kind_has_a_fallback_in_words(kind: str, text: str, words: str | None) -> None:
    assert render(kind, text) == words


@pytest.mark.behaviour("DL-01")
@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("chat", content(text="hi"), None),
        ("chat", content(text=" \n"), "it has no text"),
        ("chat", "not json", "content is not JSON"),
        ("chat", "[1]", "not a JSON object"),
        ("chat", "[" * 100_000, "content is not JSON"),
        ("chat", "{}", "key 'text' is missing"),
        ("chat", content(text=1), "must be str"),
        ("chat", content(text="a", more=1), "unknown key 'more'"),
        ("telepathy", content(text="a"), "unknown kind 'telepathy'"),
        ("task", content(prompt="p", due="now"), "nothing yet that does a task"),
    ],
)
def test_content_that_can_never_be_sent_has_a_reason(kind: str, text: str, problem: str | None) -> None:
    found = content_problem(kind, text)
    assert found is None if problem is None else found is not None and problem in found
