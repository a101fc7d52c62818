"""Documents made up by hypothesis. Every word in them is `w…x` with a number that grows, so that none can hide."""

from __future__ import annotations

import re
from itertools import count

from hypothesis import strategies as st

_HOLE = re.compile("W")

_inline = st.sampled_from(
    [
        "W",
        "W W W W W",
        "W. W W! W",
        "**W W**",
        "*W*",
        "_W W_",
        "~~W W~~",
        "***W*** W",
        "**W *W* W**",
        "`W`",
        "``W ` W``",
        "[W W](https://a.example/p_(q)_r?s=1&t=2)",
        "[W **W** `W`](http://b.example)",
        "[W](mailto:a@b.example)",
        "[W](javascript:nothing)",
        "[W](./file.md)",
        "![W](https://a.example/i.png)",
        "https://a.example/long/_path_*x*?q=1",
        "<https://c.example/x|y>",
        "[W](https://a.example/" + "long/" * 40 + ")",
        "W*W*W",
        "W_W_W",
        "*W",
        "W* 2 * 3",
        "<b>W</b> & List<W> &amp; &lt;W&gt;",
        "@everyone @here <!channel> <@U123> <@&42> <#9> <!subteam^S1|W>",
        "@**every**one W",
        "ÄÖ W 漢字 W 👩‍👩‍👧 W",
        "W " * 40,
        "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
        "W\\*W\\_W \\` W",
        "W ``` W",
        "> W # W - W",
        "**W\uff1a**W",
        "W**\u300cW\u300d**\u5b57W",
        "~~W\uff08W\uff09~~W",
        "<b>W</b> <i>W <u>W</u></i> <s>W</s> W<br>W <code>W*W</code>",
        '<a href="https://a.example/">W</a> <b>W W<sub>W</sub>',
        "W <!-- no more -->W",
        "<details><summary>W</summary>",
        "</details>",
        "C:\\W\\.W\\_W",
    ]
)
_line = st.lists(_inline, min_size=1, max_size=4).map(" ".join)
_paragraph = st.lists(_line, min_size=1, max_size=3).map("\n".join)
_heading = st.tuples(st.sampled_from(["#", "##", "####"]), _line).map(" ".join)
_rule = st.just("---")
_code_line = st.sampled_from(["W = W", "  W(<W>, '&W', *W*)", "", "W" * 30, "@everyone <!here> ~~~W", "`` W ``` W `"])
_code = st.tuples(st.sampled_from(["", "py", "c++"]), st.lists(_code_line, min_size=1, max_size=8)).map(
    lambda made: "\n".join(["````" + made[0], *made[1], "````"])
)
_cell = st.sampled_from(["W", "**W**", "W W", "", "[W](http://d.example)", "W `W`", "漢字 W"])
_head = st.tuples(_cell, _cell).map(lambda cells: f"| {cells[0]} | {cells[1]} |")
_row_cell = st.one_of(_cell, st.sampled_from(["`W|W`", "`W\\|W`", "W\\|W", "**W|W**", "[W|W](http://d.example)"]))
_row = st.lists(_row_cell, min_size=1, max_size=4).map(lambda cells: f"| {' | '.join(cells)} |")
_table = st.tuples(_head, st.lists(_row, max_size=4)).map(lambda made: "\n".join([made[0], "|---|:-:|", *made[1]]))
_leaf = st.one_of(_paragraph, _heading, _code, _table, _rule)


def _under(first: str, block: str) -> str:
    return first + block.replace("\n", "\n" + " " * len(first))


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quote = inner.map(lambda block: "> " + block.replace("\n", "\n> "))
    bullets = st.lists(inner, min_size=1, max_size=3).map(lambda made: "\n".join(_under("- ", one) for one in made))
    numbers = st.lists(inner, min_size=1, max_size=3).map(
        lambda made: "\n".join(_under(f"{number}. ", one) for number, one in enumerate(made, 7))
    )
    both = st.tuples(inner, inner).map("\n\n".join)
    skipping = st.lists(st.tuples(st.integers(0, 2000), st.sampled_from(".)"), inner), min_size=1, max_size=4).map(
        lambda made: "\n".join(_under(f"{number}{behind} ", one) for number, behind, one in made)
    )
    return st.one_of(quote, bullets, numbers, skipping, both)


def _numbered(document: str) -> str:
    numbers = count(1)
    return _HOLE.sub(lambda _: f"w{next(numbers)}x", document)


documents = st.lists(st.recursive(_leaf, _nested, max_leaves=4), min_size=1, max_size=5).map("\n\n".join).map(_numbered)
"""Markdown of every kind, nested."""

hostile_texts = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="ab1 \n\t*_~`<>[]()|\\#-+.!&@:/\u200b\u202e\0\x1b\ud800👍\u0301", max_size=400),
)
"""Anything that fits into a string."""

plain_letters = st.text(alphabet="abc  **__>#-+\n\n|\\~.", min_size=1, max_size=300)
"""Marks and letters, nothing that may swallow a letter."""
