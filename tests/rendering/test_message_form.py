"""Difficult texts in each form."""

from __future__ import annotations

import pytest

from nanohost.rendering import Form, Limits, split_message

LIMITS = Limits(max_length=4000)
ZWSP = "\u200b"
PLAIN, TELEGRAM, SLACK, DISCORD, WHATSAPP = Form.PLAIN, Form.TELEGRAM, Form.SLACK, Form.DISCORD, Form.WHATSAPP
SLACK_MARKDOWN = Form.SLACK_MARKDOWN


def written(markdown: str, form: Form) -> str:
    (part,) = split_message(markdown, form, LIMITS)
    return part.text


@pytest.mark.behaviour("DL-12")
@pytest.mark.parametrize(
    ("markdown", "form", "text"),
    [
        ("**a** *b* ~~c~~ `d`", PLAIN, "a b c d"),
        ("**a** *b* ~~c~~ `d`", TELEGRAM, "<b>a</b> <i>b</i> <s>c</s> <code>d</code>"),
        ("**a** *b* ~~c~~ `d`", SLACK, "*a* _b_ ~c~ `d`"),
        ("**a** *b* ~~c~~ `d`", DISCORD, "**a** *b* ~~c~~ `d`"),
        ("**a** *b* ~~c~~ `d`", WHATSAPP, "*a* _b_ ~c~ `d`"),
        ("**a** *b* ~~c~~ `d`", SLACK_MARKDOWN, "**a** *b* ~~c~~ `d`"),
        ("in**side**word", SLACK, f"in{ZWSP}*side*{ZWSP}word"),
        ("in**side**word", WHATSAPP, f"in{ZWSP}*side*{ZWSP}word"),
        ("**a *b* c**", TELEGRAM, "<b>a</b> <b><i>b</i></b> <b>c</b>"),
        ("# Title *x*", PLAIN, "Title x"),
        ("# Title", TELEGRAM, "<b>Title</b>"),
        ("# Title", SLACK, "*Title*"),
        ("## Title", SLACK_MARKDOWN, "## Title"),
        ("List<String> & <div>", PLAIN, "List<String> & <div>"),
        ("List<String> & <div>", TELEGRAM, "List&lt;String&gt; &amp; &lt;div&gt;"),
        ("List<String> & <div>", SLACK, "List&lt;String&gt; &amp; &lt;div&gt;"),
        ("List<String> & <div>", DISCORD, "List\\<String> & \\<div>"),
        ("&lt;b&gt; &amp;amp;", TELEGRAM, "&lt;b&gt; &amp;amp;"),
        ("a \\* b \\_c\\_ \\`d\\`", DISCORD, "a \\* b \\_c\\_ \\`d\\`"),
        ("\\*c\\*", SLACK, f"*{ZWSP}c*"),
        ("snake_case_name 2 * 3", SLACK, "snake_case_name 2 * 3"),
        ("snake_case_name", DISCORD, "snake_case_name"),
        ("\\# no heading", DISCORD, "\\# no heading"),
        ("\\> no quote", WHATSAPP, f"{ZWSP}> no quote"),
        ("7\\. no list", SLACK_MARKDOWN, "7\\. no list"),
        ("`a``b`", SLACK, f"a`{ZWSP}`{ZWSP}b"),
    ],
)
def test_styles_are_rendered_and_other_text_is_escaped(markdown: str, form: Form, text: str) -> None:
    assert written(markdown, form) == text


@pytest.mark.parametrize(
    ("markdown", "form", "text"),
    [
        ("[a](https://x.example)", PLAIN, "a (https://x.example)"),
        ("[a](https://x.example)", WHATSAPP, "a (https://x.example)"),
        ("[a](https://x.example)", SLACK, "<https://x.example|a>"),
        ("[a](https://x.example)", DISCORD, "[a](<https://x.example>)"),
        ("[a](https://x.example)", SLACK_MARKDOWN, "[a](https://x.example)"),
        ('[a<](https://x.example/?b=1&c="d)', TELEGRAM, '<a href="https://x.example/?b=1&amp;c=%22d">a&lt;</a>'),
        ("[a](https://x.example/(b))", DISCORD, "[a](<https://x.example/%28b%29>)"),
        ("[a|b>](https://x.example/|c)", SLACK, "<https://x.example/%7Cc|a|b&gt;>"),
        ("https://x.example/a_b_c.", DISCORD, "<https://x.example/a_b_c>."),
        ("https://x.example/a_b_c.", TELEGRAM, "https://x.example/a_b_c."),
        ("https://x.example/a_b_c.", SLACK, "<https://x.example/a_b_c>."),
        ("<https://x.example>", PLAIN, "https://x.example"),
        ("<ann@x.example>", PLAIN, "ann@x.example"),
        ("[you](tg://user?id=7)", TELEGRAM, '<a href="tg://user?id=7">you</a>'),
        ("[a](javascript:b)", TELEGRAM, "[a](javascript:b)"),
        ("[a](data:text/html,b)", TELEGRAM, "[a](data:text/html,b)"),
        ("[a](./notes.md)", TELEGRAM, "a (./notes.md)"),
        ("[https://bank.example](https://evil.example)", DISCORD, "https://bank.example (<https://evil.example>)"),
        ("![a cat](https://x.example/c.png)", TELEGRAM, '<a href="https://x.example/c.png">a cat</a>'),
        ("![](https://x.example/c.png)", SLACK, "<https://x.example/c.png>"),
        ("[1]: https://x.example", PLAIN, "[1]: https://x.example"),
    ],
)
def test_links_lead_only_to_their_stated_address(markdown: str, form: Form, text: str) -> None:
    assert written(markdown, form) == text


@pytest.mark.parametrize(
    ("markdown", "form", "text"),
    [
        ("```py\na < b\n```", TELEGRAM, '<pre><code class="language-py">a &lt; b</code></pre>'),
        ("```\na < b\n```", SLACK, "```\na &lt; b\n```"),
        ("```py\na\n```", WHATSAPP, "```\na\n```"),
        ("```py\na\n```", PLAIN, "a"),
        ('```x"><b>\na\n```', TELEGRAM, '<pre><code class="language-xb">a</code></pre>'),
        ("````md\n```py\na\n```\n````", DISCORD, f"```md\n``{ZWSP}`py\na\n``{ZWSP}`\n```"),
        ("- a\n  - b\n    1. c\n- d", TELEGRAM, "• a\n  • b\n    1. c\n• d"),
        ("- a\n  - b", SLACK_MARKDOWN, "- a\n  - b"),
        ("7. a\n8. b", PLAIN, "7. a\n8. b"),
        ("- a\n\n  more\n- b", PLAIN, "- a\n\n  more\n\n- b"),
        ("> a\n> b", TELEGRAM, "<blockquote>a\nb</blockquote>"),
        ("> a\n>\n> b", TELEGRAM, "<blockquote>a\n\nb</blockquote>"),
        ("> a\n>> b", TELEGRAM, "<blockquote>a\n\n&gt; b</blockquote>"),
        ("> a\n>\n> b", SLACK, "> a\n>\n> b"),
        ("a\n\n---\n\nb", PLAIN, "a\n\n———\n\nb"),
        ("| n | name |\n|---|---|\n| 10 | x |", DISCORD, "```\nn   name\n──  ────\n10  x\n```"),
        ("| n | 漢字 |\n|---|---|\n| 1 | `x` |", PLAIN, "n  漢字\n─  ────\n1  x"),
        ("| a\\|b | *c* |\n|---|---|\n| 1 | 2 |", SLACK_MARKDOWN, "| a\\|b | *c* |\n| --- | --- |\n| 1 | 2 |"),
        ("***", PLAIN, "———"),
        ("#", PLAIN, "#"),
        ("a\r\nb\x00c\x1b[1m", PLAIN, "a\nb\ufffdc\ufffd[1m"),
        ("half \ud800 a character", TELEGRAM, "half ? a character"),
    ],
)
def test_blocks_keep_their_structure(markdown: str, form: Form, text: str) -> None:
    assert written(markdown, form) == text


def test_a_table_too_long_for_a_message_is_aligned_with_spaces() -> None:
    table = "| n | name |\n|---|---|\n" + "".join(f"| {number} | row {number} |\n" for number in range(10))
    parts = split_message(table, SLACK_MARKDOWN, Limits(max_length=100))
    assert len(parts) > 1
    assert all(part.text.startswith("```\n") and part.text.endswith("\n```") for part in parts)


@pytest.mark.behaviour("DL-12")
@pytest.mark.parametrize("form", [SLACK, SLACK_MARKDOWN, DISCORD])
@pytest.mark.parametrize(
    "ping",
    [
        "@everyone",
        "@Here",
        "@channel",
        "@**every**one",
        "<@123>",
        "<@!123>",
        "<@&9>",
        "<#5>",
        "<!channel>",
        "<!subteam^S1|x>",
        "\\<@U1>",
        "&lt;!here&gt;",
        "`<!here> @everyone`",
        "```\n<@U1> @here\n```",
        "[@everyone](https://x.example/@everyone)",
        "https://x.example/@here",
        "| @everyone |\n|---|\n| <!here> |",
        "# @everyone",
        "- **@here**",
    ],
)
def test_an_agent_cannot_mention_everyone(ping: str, form: Form) -> None:
    (part,) = split_message(ping, form, LIMITS)
    for text in (part.text, part.plain):
        lowered = text.lower()
        assert not [call for call in ("@everyone", "@here", "@channel", "<@", "<!", "<#") if call in lowered]


@pytest.mark.behaviour("DL-12")
def test_an_escaped_mention_looks_the_same() -> None:
    assert written("hi @everyone", DISCORD).replace(ZWSP, "") == "hi @everyone"
    assert written("ask ann@x.example", DISCORD) == "ask ann@x.example"
    assert written("hi @ann", TELEGRAM) == "hi @ann"
