"""Markdown as models write it, as a person sees it in every form, by the platform's own rules."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.rendering import Form, Limits, Unit, split_message
from tests.rendering.checkers import check_part
from tests.rendering.readers import read_as_person
from tests.rendering.test_any_text import NATIVE, quick

ZWSP = "\u200b"
READ = [form for form in Form if form is not Form.MARKDOWN]
every_form = pytest.mark.parametrize("form", READ)


def shown(markdown: str, form: Form) -> str:
    """Without the form's bullets and empty lines."""
    parts = split_message(markdown, form, NATIVE[form])
    for part in parts:
        check_part(part, form, NATIVE[form])
    lines = "\n".join(read_as_person(part, form) for part in parts).replace("• ", "- ").splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())


def plain(markdown: str) -> str:
    return "\n".join(part.text for part in split_message(markdown, Form.PLAIN, Limits(max_length=4000)))


@pytest.mark.behaviour("DL-12")
@every_form
@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("3. a\n4. b\n5. c", "3. a\n4. b\n5. c"),
        ("0. a\n0. b", "0. a\n1. b"),
        ("007. Bond", "007. Bond"),
        ("1. a\n2. b\n\n<!-- -->\n\n1. c\n2. d", "1. a\n2. b\n1. c\n2. d"),
        ("1. a\n2. b\n\n<!-- -->\n\n3. c", "1. a\n2. b\n3. c"),
        ("01. a\n02. b", "01. a\n02. b"),
        ("3. a\n5. b\n   - c\n   - d\n9. e", "3. a\n5. b\n- c\n- d\n9. e"),
        ("- a\n  3. b\n  5. c\n- d", "- a\n3. b\n5. c\n- d"),
        ("7. a\n\n   more\n\n9. b", "7. a\nmore\n9. b"),
        ("2. a\n4. b\n   7. c\n   9. d\n6. e", "2. a\n4. b\n7. c\n9. d\n6. e"),
        ("3. a\n5. b\n   1. c\n   2. d", "3. a\n5. b\n1. c\n2. d"),
        ("> 3. a\n> 5. b", "3. a\n5. b"),
        ("In\n1986\\. it was great", "In\n1986. it was great"),
    ],
)
def test_a_list_keeps_its_own_numbers(markdown: str, lines: str, form: Form) -> None:
    flat = [line.strip(" >") for line in shown(markdown, form).splitlines()]
    assert flat == lines.splitlines()


@every_form
def test_a_list_numbered_with_brackets_keeps_its_numbers(form: Form) -> None:
    """A Markdown parser may show the bracket as a point."""
    assert re.sub(r"(\d)\)", r"\1.", shown("10) ten\n11) eleven\n15) more", form)) == "10. ten\n11. eleven\n15. more"


@pytest.mark.behaviour("DL-06")
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12), st.sampled_from(READ), st.sampled_from(["\n", "\n\n"]))
@quick
def test_numbered_list_items_keep_their_numbers(numbers: list[int], form: Form, between: str) -> None:
    wanted = numbers if len(numbers) == 1 or len({*numbers}) > 1 else [numbers[0] + at for at in range(len(numbers))]
    text = between.join(f"{number}. item{at}" for at, number in enumerate(numbers))
    assert re.findall(r"(\d+)\. item", shown(text, form)) == [str(number) for number in wanted]


@pytest.mark.parametrize("form", [Form.SLACK, Form.SLACK_MARKDOWN, Form.DISCORD, Form.WHATSAPP, Form.TELEGRAM])
@pytest.mark.parametrize("markdown", ["**Note**: x, (*see* `there`).", "**Total:**42", "**Note:**see"])
def test_no_invisible_character_is_put_beside_formatting(markdown: str, form: Form) -> None:
    [part] = split_message(markdown, form, NATIVE[form])
    assert ZWSP not in part.text


@every_form
@pytest.mark.parametrize(
    "text",
    [
        "2*(3+4)*5 = 70",
        "f(*args)*n and g(**kw)",
        "this._foo._bar",
        "a snake_case_name",
        "a * b * c",
        "5 ** 3 ** 2",
        "List<String> and Map<B>",
    ],
)
def test_text_that_only_resembles_markup_is_unchanged(text: str, form: Form) -> None:
    assert shown(text, form).replace(ZWSP, "") == text


@every_form
@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        ("<b>bold</b> and <i>it</i>, <u>un</u>, <s>old</s>", "bold and it, un, old"),
        ("<strong>a</strong><em> b</em>, <ins>c</ins> <del>d</del>", "a b, c d"),
        ("**<b>a</b> b** c", "a b c"),
        ("line one<br>line two<br/>\nline three", "line one\nline two\nline three"),
        ("press <kbd>Ctrl</kbd>+<code>a*b*c &lt;d&gt;</code>", "press Ctrl+a*b*c <d>"),
        ('see <a href="https://x.example/a">the page</a>', "see the page (https://x.example/a)"),
        ("H<sub>2</sub>O, x<sup>2</sup>, 1<sup>st</sup>", "H₂O, x², 1ˢᵗ"),
        ("x<sub>Q</sub> e<sup>a/b</sup>", "x_Q e^(a/b)"),
        ("x<sup><b>2</b> <i></sup>", "x2 <i>"),
        ("<details>\n<summary>More</summary>\n\nHidden *words*\n\n</details>\n\nend", "More\nHidden words\nend"),
        ("<details><summary>More</summary>\nHidden\n</details>", "More\nHidden"),
        ("<details>\n<summary>More</summary>\n\n- a\n- b\n</details>", "More\n- a\n- b"),
        ("a <!-- never --> b", "a b"),
        ("<!-- first\n\n- x\n-->\nwords\n<!-- last -->", "words"),
        ("- a <!-- x -->\n- b", "- a\n- b"),
        ("words\n<!-- x -->\nmore", "words\nmore"),
        ("&lt;b&gt; &amp; &copy; &#8594;", "<b> & © →"),
        ('<p align="center">Title</p>\n\n<div>text</div>', "Title\ntext"),
        ('<span style="color:red">red</span>', "red"),
        ("<p>a</p> <p>b</p>", "a\nb"),
        ("<p>a</p> b", "a\nb"),
        ("a<br> b", "a\nb"),
        ("<details> <summary>More</summary> words </details>", "More\nwords"),
        ("use <b> for bold, </i> ends", "use <b> for bold, </i> ends"),
        ("a <p>x</p> is a paragraph", "a <p>x</p> is a paragraph"),
        ("`<b>x</b>`", "<b>x</b>"),
        ("```\n<b>x</b> <!-- y -->\n```", "<b>x</b> <!-- y -->"),
        ("a <!-- never ends", "a <!-- never ends"),
        ("<!-- nothing but this -->", "<!-- nothing but this -->"),
    ],
)
def test_html_is_rendered_as_a_person_expects(markdown: str, words: str, form: Form) -> None:
    assert shown(markdown, form).replace(ZWSP, "") == words


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form.TELEGRAM, "<b>b</b> <i>i</i> <u>u</u> <s>s</s> <code>c</code>"),
        (Form.DISCORD, "**b** *i* __u__ ~~s~~ `c`"),
        (Form.WHATSAPP, "*b* _i_ u ~s~ `c`"),
        (Form.SLACK_MARKDOWN, "**b** *i* u ~~s~~ `c`"),
    ],
)
def test_html_is_rendered_in_the_target_form(form: Form, text: str) -> None:
    [part] = split_message("<b>b</b> <i>i</i> <u>u</u> <s>s</s> <code>c</code>", form, NATIVE[form])
    assert part.text == text


def test_a_line_break_in_a_table_cell_becomes_a_space() -> None:
    assert plain("| a | b |\n|---|---|\n| x<br>y | <b>z</b> |").splitlines()[-1].split() == ["x", "y", "z"]


@every_form
@pytest.mark.parametrize(
    "text",
    [
        r"Look in C:\Users\ann\.ssh\_old for it.",
        r"C:\_old and D:\*.txt",
        r"match \d+\.\d+ or \w\*\[x\]",
        r"\\server\share\_x",
        r"路径是 C:\文档\_旧 在那里",
        r"folder C:\temp\(1)",
        r"in ~\.ssh, .\_build, (..\.git) or %APPDATA%\_x",
        "a line with C:\\temp\\\nand another",
    ],
)
def test_literal_backslashes_are_kept(text: str, form: Form) -> None:
    assert shown(text, form).replace(ZWSP, "") == text


@every_form
@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        (r"\*no bold\* snake\_case \[x\]\(y\)", "*no bold* snake_case [x](y)"),
        (r"\*\*a\*\* 1\. \# \> \`b\`", "**a** 1. # > `b`"),
        (r"v1\.2\.3\! Really\?", "v1.2.3! Really?"),
        (r"C:\\Users\\ann", r"C:\Users\ann"),
        (r"all of (.\*) and \*.\*", "all of (.*) and *.*"),
    ],
)
def test_escaped_markup_stays_escaped(markdown: str, words: str, form: Form) -> None:
    assert shown(markdown, form).replace(ZWSP, "") == words


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("- **[item {n}](https://x.example/{n})** *by* `{n}` ~~old~~ #tag{n}", "https://x.example/{n})"),
        ("[a{n}](https://x.example/{n}) and", "https://x.example/{n})"),
        ("> [q{n}](https://x.example/{n})\n", "https://x.example/{n})"),
        ("# [h{n}](https://x.example/{n})\n\n**b** *c* /do{n} @somebody{n}", "https://x.example/{n})"),
    ],
)
def test_no_link_is_lost_to_the_entity_limit(line: str, address: str) -> None:
    text = "\n".join(line.replace("{n}", str(number)) for number in range(150))
    parts = split_message(text, Form.TELEGRAM, NATIVE[Form.TELEGRAM])
    for part in parts:
        check_part(part, Form.TELEGRAM, NATIVE[Form.TELEGRAM])
    said = "\n".join(read_as_person(part, Form.TELEGRAM, entities=100) for part in parts)
    assert [number for number in range(150) if address.replace("{n}", str(number)) not in said] == []


def test_entities_that_telegram_detects_by_itself_count_too() -> None:
    text = " ".join(f"#tag{number}" for number in range(150)) + " [last](https://x.example)"
    parts = split_message(text, Form.TELEGRAM, NATIVE[Form.TELEGRAM])
    assert [len(re.findall("#tag|<a", part.text)) <= 100 for part in parts] == [True, True]


def test_an_entity_limit_below_a_few_is_refused() -> None:
    with pytest.raises(ValueError, match="entities"):
        Limits(max_length=50, unit=Unit.CHARS, max_entities=3)


@every_form
@pytest.mark.parametrize(
    "text",
    ["5*3*2 = 30", "area = 2*r*3", "V = a*b*c", "x = 10*y*z; 7*8", "a*1*b", "2**10**3 is large", "3*4*5*6", "10*2* 5"],
)
def test_an_operator_between_numbers_is_not_formatting(text: str, form: Form) -> None:
    assert shown(text, form).replace(ZWSP, "") == text


@every_form
@pytest.mark.parametrize("text", ["the **5**th", "**10**x as fast", "un*frigging*believable", "*2*nd", "这是*3*点"])
def test_formatting_next_to_a_number_is_applied(text: str, form: Form) -> None:
    assert "*" not in shown(text, form)


@every_form
@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("Balance:\n+ 100\n- 20\n+ 3", "Balance:\n+ 100\n\u2212 20\n+ 3"),
        ("+ cheap\n+ fast\n- ugly", "+ cheap\n+ fast\n\u2212 ugly"),
        ("- ugly\n\n\n+ cheap", "\u2212 ugly\n+ cheap"),
        ("+ 10 for the fee\n+ €5", "+ 10 for the fee\n+ €5"),
        ("1. x\n   + good\n   - bad", "1. x\n+ good\n\u2212 bad"),
        ("+ a\n  - b", "- a\n- b"),
        ("* a\n  + b\n- c", "- a\n- b\n- c"),
    ],
)
def test_plus_and_minus_signs_that_mark_list_items_are_kept(markdown: str, lines: str, form: Form) -> None:
    assert [line.strip() for line in shown(markdown, form).splitlines()] == lines.splitlines()


@every_form
def test_an_address_that_is_not_a_link_is_unchanged(form: Form) -> None:
    text = shown(r"[one](Übersicht.md) [two](<my file.txt>) [three](C:\new\x.txt)", form)
    assert text == r"one (Übersicht.md) two (my file.txt) three (C:\new\x.txt)"


@every_form
def test_a_shrug_emoticon_keeps_both_arms(form: Form) -> None:
    assert shown(r"Well ¯\_(ツ)_/¯ who knows", form).replace(ZWSP, "") == r"Well ¯\_(ツ)_/¯ who knows"


@pytest.mark.parametrize(
    "form", [Form.TELEGRAM, Form.SLACK, Form.SLACK_MARKDOWN, Form.DISCORD, Form.WHATSAPP, Form.PLAIN]
)
@pytest.mark.parametrize(
    ("markdown", "address", "words"),
    [
        ("see https://example.com/pkg/__init__.py, line 3", "https://example.com/pkg/__init__.py", "see"),
        ("**Docs:** https://example.com/?q=*a*&b=_c_d", "https://example.com/?q=*a*&b=_c_d", "Docs:"),
        ("at **https://example.com/a_b**.", "https://example.com/a_b", "at"),
        ("*https://example.com/~ann/~x~*, yes", "https://example.com/~ann/~x", ", yes"),
        (r"see https://example.com/a\_b\_c", "https://example.com/a_b_c", "see"),
        ("https://example.com/?a=1&amp;b=_c_d x", "https://example.com/?a=1&b=_c_d", "x"),
        ("[https://example.com/_a_](https://example.com/_b_) x", "https://example.com/_b_", "x"),
        ("see https://example.com/ü/__init__.py now", "https://example.com/ü/__init__.py", "now"),
        ("see https://example.com/путь_a_b now", "https://example.com/путь_a_b", "now"),
        ("见**https://example.com/a**吧", "https://example.com/a", "吧"),
        ("见**[这里](https://example.com/a)**吧", "https://example.com/a", "这里"),
    ],
)
def test_formatting_characters_in_an_address_belong_to_it(markdown: str, address: str, words: str, form: Form) -> None:
    [part] = split_message(markdown, form, NATIVE[form])
    assert address in html.unescape(part.text).replace("\\", "")
    assert words in part.text
    assert "**" not in read_as_person(part, form)
