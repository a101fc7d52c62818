"""The simulator reads markup as strictly as Telegram does; what the host renders passes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanohost.rendering import Form, Limits, Unit, split_message
from nanohost.testing.simulators._telegram_html import BadMarkup, read, utf16_length

REFUSED = {
    "<b>a": 'Can\'t find end tag corresponding to start tag "b"',
    "a</b>": "Unexpected end tag at byte offset 1",
    "<b>a</i>": 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"',
    "é<div>a</div>": 'Unsupported start tag "div" at byte offset 2',
    "a < b": "Unclosed start tag at byte offset 2",
    "a < b > c": 'Unsupported start tag "" at byte offset 2',
    '<a href="x>y</a>': 'Unexpected end of name token in the tag "a" at byte offset 0',
    "<span>a</span>": 'Tag "span" must have class "tg-spoiler" at byte offset 0',
}


@pytest.mark.parametrize("markup", REFUSED)
def test_the_simulator_refuses_broken_markup_in_telegrams_words(markup: str) -> None:
    with pytest.raises(BadMarkup) as raised:
        read(markup)
    assert str(raised.value) == REFUSED[markup]


def test_the_simulator_parses_markup_with_known_entities_only() -> None:
    found = read(
        '<b>a &lt;<i>b</i></b> &nbsp; & <a href="tg://user?id=7">&#x1F600;</a><pre><code class="x">c</code></pre>'
    )
    assert (found.text, found.users) == ("a <b &nbsp; & 😀c", {"7"})
    assert utf16_length("😀") == 2


PIECES = st.sampled_from(
    [
        "*",
        "**",
        "_",
        "~~",
        "`",
        "```",
        "\n",
        "\n\n",
        ">",
        "-",
        "1.",
        "#",
        "|",
        "[a](b)",
        "<",
        ">",
        "&",
        "&amp;",
        "<b>",
        "</b>",
        "@everyone",
        "https://x.y",
        "😀",
        "word",
        "a_b",
        "\\",
        "|-|",
    ]
)


@pytest.mark.behaviour("DL-06", "DL-12")
@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=30).map(" ".join), st.sampled_from([60, 4096]))
def test_any_markdown_is_rendered_as_markup_that_telegram_accepts(markdown: str, limit: int) -> None:
    limits = Limits(max_length=limit, unit=Unit.UTF16, is_counted_after_parsing=True)
    for part in split_message(markdown, Form.TELEGRAM, limits):
        assert utf16_length(read(part.text).text) <= limit
        assert utf16_length(part.plain) <= limit
