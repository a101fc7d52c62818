"""Where a text is split, and what happens to formatting at a split."""

from __future__ import annotations

from time import process_time

import pytest

from nanohost.rendering import Form, Limits, MessagePart, Unit, split_message

ROOMY = Limits(max_length=4000)
FORMS = list(Form)


def texts(parts: tuple[MessagePart, ...]) -> list[str]:
    return [part.text for part in parts]


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("blank", ["", " \n\t "])
def test_a_blank_text_makes_no_message(blank: str, form: Form) -> None:
    assert split_message(blank, form, ROOMY) == ()


@pytest.mark.parametrize("text", ["*a* <b>\n\n\n1) x\n", "| a |\n|---|\n| b |", "  @everyone  "])
def test_markdown_that_fits_is_left_unchanged(text: str) -> None:
    assert split_message(text, Form.MARKDOWN, ROOMY) == (MessagePart(text=text, plain=text),)


@pytest.mark.behaviour("DL-06")
def test_a_split_code_block_is_fenced_again_with_its_language() -> None:
    code = "\n".join(f"line_{number} = {number}" for number in range(8))
    first, second = texts(split_message(f"```python\n{code}\n```", Form.DISCORD, Limits(max_length=60)))
    assert first == "```python\nline_0 = 0\nline_1 = 1\nline_2 = 2\nline_3 = 3\n```"
    assert second == "```python\nline_4 = 4\nline_5 = 5\nline_6 = 6\nline_7 = 7\n```"


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize("form", FORMS)
def test_empty_lines_make_no_message(form: Form) -> None:
    parts = split_message("```\n" + "\n" * 200 + "a = 1" + "\n" * 200 + "\n```", form, Limits(max_length=50))
    assert [part.plain.strip("`\n") for part in parts] == ["a = 1"]


@pytest.mark.behaviour("DL-06")
def test_a_link_is_never_split() -> None:
    text = "some words go before it and then " + "[a label](https://a.example/with/a/path)"
    assert texts(split_message(text, Form.MARKDOWN, Limits(max_length=60))) == [
        "some words go before it and then",
        "[a label](https://a.example/with/a/path)",
    ]


@pytest.mark.behaviour("DL-06")
def test_a_link_longer_than_a_message_becomes_text() -> None:
    address = "https://a.example/" + "x" * 60
    parts = split_message(f"[label]({address})", Form.TELEGRAM, Limits(max_length=60, is_counted_after_parsing=True))
    assert len(parts) == 2
    assert "".join(part.plain for part in parts).replace(" ", "") == f"label({address})"
    assert all("<a" not in part.text for part in parts)


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("First line of the text here.\nSecond line that is some more words.", ["First line", "Second line"]),
        ("One sentence that is quite long ends. Another begins here now.", ["One sentence", "Another begins"]),
        ("words " * 12, ["words words", "words words"]),
        ("x" * 70, ["x" * 50, "x" * 20]),
        ("a" * 49 + "e\u0301" + "b" * 10, ["a" * 49, "e\u0301b"]),
        ("a" * 49 + "👩\u200d👧" + "b" * 10, ["a" * 49, "👩\u200d👧b"]),
    ],
)
def test_a_split_is_made_where_a_reader_would_pause(text: str, parts: list[str]) -> None:
    made = texts(split_message(text, Form.PLAIN, Limits(max_length=50)))
    assert len(made) == len(parts)
    assert all(one.startswith(beginning) for one, beginning in zip(made, parts, strict=True))


def test_a_heading_stays_with_the_paragraph_below_it() -> None:
    text = "An opening paragraph, thirty-odd.\n\n# Heading\n\nThe paragraph under the heading."
    assert texts(split_message(text, Form.PLAIN, Limits(max_length=50))) == [
        "An opening paragraph, thirty-odd.",
        "Heading\n\nThe paragraph under the heading.",
    ]


def test_a_paragraph_that_fits_into_a_message_is_not_split() -> None:
    first, second = "a" * 30, "b c " * 10
    assert texts(split_message(f"{first}\n\n{second}", Form.PLAIN, Limits(max_length=50))) == [first, second.strip()]


def test_a_split_list_item_continues_without_a_marker() -> None:
    first, second = texts(split_message("3. " + "word " * 15, Form.TELEGRAM, Limits(max_length=50)))
    assert first.startswith("3. word")
    assert second.startswith("   word")


def test_a_style_is_closed_and_reopened_at_a_split() -> None:
    first, second = texts(split_message("**" + "word " * 14 + "end**", Form.TELEGRAM, Limits(max_length=60)))
    assert first.startswith("<b>word")
    assert first.endswith("word</b>")
    assert second.startswith("<b>word")
    assert second.endswith("end</b>")


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize(
    ("unit", "number"), [(Unit.CHARS, 1), (Unit.UTF16, 2), (Unit.BYTES, 4)], ids=lambda value: str(value)
)
def test_length_is_counted_in_the_platforms_unit(unit: Unit, number: int) -> None:
    assert len(split_message("👍" * 60, Form.PLAIN, Limits(max_length=60, unit=unit))) == number


@pytest.mark.behaviour("DL-06")
def test_tags_do_not_count_where_the_platform_counts_after_parsing() -> None:
    text = "**a** & <b> " * 10
    limits = Limits(max_length=90, is_counted_after_parsing=True)
    (part,) = split_message(text, Form.TELEGRAM, limits)
    assert len(part.text) > limits.max_length


@pytest.mark.behaviour("DL-06")
def test_markup_that_leaves_no_room_is_dropped_and_its_words_are_kept() -> None:
    text = ">>> - - 123456789. a word and [a link](https://a.example/b)\n\n```" + "l" * 20 + "\ncode\n```"
    parts = split_message(text, Form.TELEGRAM, Limits(max_length=50))
    assert all(len(part.text) <= 50 and len(part.plain) <= 50 for part in parts)
    said = " ".join(part.plain for part in parts)
    assert [word for word in ("a word", "a link", "(https://a.example/b)", "code") if word not in said] == []


def test_a_length_limit_below_a_few_words_is_refused() -> None:
    with pytest.raises(ValueError, match="50"):
        Limits(max_length=10)


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize("form", [form for form in Form if form is not Form.MARKDOWN])
@pytest.mark.parametrize(
    "text",
    [
        ">" * 10_000 + " deep",
        "- " * 10_000 + "deep",
        "\n".join("  " * depth + "- item" for depth in range(60)) + " deep",
        "[" * 5_000 + "deep",
        "*a **b " * 500 + "deep",
        "`" * 5_000 + " deep",
    ],
    ids=["quotes", "lists", "indents", "brackets", "stars", "backticks"],
)
def test_deep_nesting_loses_no_word(text: str, form: Form) -> None:
    parts = split_message(text, form, ROOMY)
    assert "deep" in parts[-1].plain
    assert all(0 < len(part.text) <= 4000 for part in parts)


@pytest.mark.behaviour("DL-06")
def test_a_huge_text_is_split_at_its_lines_without_parsing_markdown() -> None:
    line = "**not bold** in a long log\n"
    parts = split_message(line * 10_000, Form.PLAIN, Limits(max_length=1000))
    assert "\n".join(texts(parts)) == (line * 10_000).strip()


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.MARKDOWN])
def test_rendering_dense_markup_of_20_kb_takes_under_a_second(form: Form) -> None:
    dense = (
        "**b** *i* `c` [l](http://a.example/b_c) ~~s~~ x_y & <b>\n- item **x**\n  1. two\n\n> q\n\n```py\nx\n```\n\n"
    )
    text = (dense * 300)[:20_000]
    best = min(_seconds(text, form) for _ in range(2))
    assert best < 0.8, "a tenth of this is usual on a machine that does nothing else"


def _seconds(text: str, form: Form) -> float:
    began = process_time()
    split_message(text, form, Limits(max_length=2000))
    return process_time() - began
