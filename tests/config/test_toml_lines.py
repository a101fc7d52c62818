"""Lines of a TOML file: the line of each key, and each invalid line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.config.toml_lines import parse_statements

WHOLE = '''# a comment
top = 1

[host]
runtime = "docker"  # why
"quoted key" = 1
text = """
[not.a.section]
x = 2
"""
list = [
  1, # one
  2,
]
odd = [1
, 2]
a.b.c = true
inline = { x = 1, y = { z = 2 } }

[channels."my bot".work]
token = "t"
[[many]]
n = 1
[[many]]
n = 2
'''


def test_each_key_and_section_has_the_line_of_its_statement() -> None:
    found = parse_statements(WHOLE)
    assert found.bad_lines == []
    assert found.table == tomllib.loads(WHOLE)
    lines = WHOLE.split("\n")
    for name, begins in {
        "top": "top",
        "host": "[host]",
        "host.runtime": "runtime",
        "host.quoted key": '"quoted',
        "host.text": "text",
        "host.list": "list",
        "host.odd": "odd",
        "host.a.b.c": "a.b.c",
        "host.inline.y.z": "inline",
        "channels": "[channels",
        "channels.my bot": "[channels",
        "channels.my bot.work": "[channels",
        "channels.my bot.work.token": "token",
        "many": "[[many]]",
        "many.n": "n = 1",
    }.items():
        assert lines[found.lines[name] - 1].startswith(begins), name
    assert found.lines["host.list"] == 11
    assert "not.a.section" not in found.lines


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# nothing", "x = 1", "x = 1\r\n[a]\r\ny = 2\r\n", "[a]", 'x="""\n\n"""', "x = [1\n,2]"]
)
def test_everything_that_tomllib_accepts_is_accepted(text: str) -> None:
    found = parse_statements(text)
    assert (found.table, found.bad_lines) == (tomllib.loads(text), [])


def test_every_invalid_line_is_reported_and_the_rest_is_read() -> None:
    text = '[host]\nruntime = docker\nwatch = true\n= 1\n[agent\nmodel = "m"\nkey\n'
    found = parse_statements(text)
    assert [bad.line for bad in found.bad_lines] == [2, 4, 5, 7]
    assert all(f"at line {bad.line}, column " in bad.message for bad in found.bad_lines)
    assert found.table == {"host": {"watch": True}, "agent": {"model": "m"}}
    assert found.lines["host.watch"] == 3


@pytest.mark.parametrize("head", ["[host", "[host]]", "[[host]", "[host # mine", '["host"', "[host)", "  [ host"])
def test_a_section_head_with_a_wrong_bracket_is_one_mistake_and_keeps_its_keys(head: str) -> None:
    found = parse_statements(f"{head}\nwatch = true\n[agent]\nmodel = 'm'\n")
    assert [bad.line for bad in found.bad_lines] == [1]
    assert found.table == {"host": {"watch": True}, "agent": {"model": "m"}}
    assert found.lines["host.watch"] == 2


@pytest.mark.parametrize("head", ["[ho st", "[]", "[a..b]", "[host] x"])
def test_keys_below_an_unreadable_section_head_are_not_reported(head: str) -> None:
    found = parse_statements(f"{head}\nwatch = true\n[agent]\nmodel = 'm'\n")
    assert [bad.line for bad in found.bad_lines] == [1]
    assert found.table == {"agent": {"model": "m"}}


@pytest.mark.parametrize("opened", ["x = [", 'x = """', "x = '''", "x = { a = 1,"])
def test_an_unclosed_value_is_one_mistake(opened: str) -> None:
    found = parse_statements(f"a = 1\n{opened}\n1, 2\ny = 3\n")
    assert len(found.bad_lines) == 1


def test_a_duplicate_key_or_section_is_reported_with_its_line() -> None:
    [bad] = parse_statements("[host]\nwatch = true\nwatch = false\n").bad_lines
    assert (bad.line, "line 3" in bad.message) == (3, True)
    assert len(parse_statements("[host]\n[host]\n").bad_lines) == 1


PIECES = (
    *("[a]", "[a.b]", "[[m]]", "[]", "x = 1", "'a'=1", "a.b = {c=1}", "x = 1 y = 2", "[a]x=1"),
    *("z = [", "x = [1", "1, 2", "]", "x = {", "}", 't = """', '"""', "'''", "= 1", "k", "[", "# c", "", "\x00", "\r"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("\n".join))
def test_the_parser_agrees_with_tomllib_and_reports_existing_lines(text: str) -> None:
    found = parse_statements(text)
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert found.bad_lines
        assert all(1 <= bad.line <= text.count("\n") + 1 for bad in found.bad_lines)
    else:
        assert (found.table, found.bad_lines) == (whole, [])
