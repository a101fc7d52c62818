"""Which of the agent's text is for people, and its destination."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.destinations import (
    Address,
    AddressBook,
    ReplyContext,
    UnreachableTarget,
    resolve_address,
    resolve_bare_address,
)
from agent_runner.reply import Block, parse_reply
from nanohost_protocol.rows import Destination, InKind, MessageIn
from nanohost_protocol.rows import Origin as RowOrigin

FENCE = "```"


@pytest.mark.behaviour("RU-06")
@pytest.mark.parametrize(
    ("text", "blocks", "bare"),
    [
        ("hello", [], "hello"),
        ("", [], ""),
        ('<message to="home">hi</message>', [Block(text="hi", to="home")], ""),
        ("<message to='home' re='4'>hi</message>", [Block(text="hi", to="home", reply_to_seq=4)], ""),
        ("<message re=4>hi</message>", [Block(text="hi", reply_to_seq=4)], ""),
        ('<message to="a&amp;b" re="x">hi</message>', [Block(text="hi", to="a&b")], ""),
        ("<message>hi</message>", [Block(text="hi")], ""),
        (
            'a <message to="x">1</message> b <message to="y">2</message>',
            [Block(text="1", to="x"), Block(text="2", to="y")],
            "a  b",
        ),
        ('<message to="x">cut off', [Block(text="cut off", to="x")], ""),
        ('<message to="x">  </message>', [], ""),
        ("<internal>secret</internal>hi", [], "hi"),
        ("<internal>never closed, never sent", [], ""),
        ('<message to="x">a<internal>secret</internal>b</message>', [Block(text="ab", to="x")], ""),
        ('<internal><message to="x">no</message></internal>', [], ""),
        ("<messages>not ours</messages>", [], "<messages>not ours</messages>"),
        ('say `<message to="x">` to send', [], 'say `<message to="x">` to send'),
        (
            f'{FENCE}xml\n<message to="x">example</message>\n{FENCE}',
            [],
            f'{FENCE}xml\n<message to="x">example</message>\n{FENCE}',
        ),
        (
            f'<message to="x">\n{FENCE}\n</message>\n{FENCE}\nend</message>',
            [Block(text=f"{FENCE}\n</message>\n{FENCE}\nend", to="x")],
            "",
        ),
        (
            f'<message to="x">\n{FENCE}\nnever closed</message>',
            [Block(text=f"{FENCE}\nnever closed", to="x")],
            "",
        ),
        (f'~~~\n{FENCE}\n<message to="x">no</message>\n~~~', [], f'~~~\n{FENCE}\n<message to="x">no</message>\n~~~'),
    ],
)
def test_a_reply_is_parsed_into_blocks_and_unaddressed_text(text: str, blocks: list[Block], bare: str) -> None:
    reply = parse_reply(text)
    assert (list(reply.blocks), reply.bare_text) == (blocks, bare)


PIECES = st.sampled_from(
    ['<message to="x">', "</message>", "<internal>", "</internal>", "`", "\n```\n", "~~~\n", "text ", "\n", "<", '"']
)


@given(st.lists(PIECES | st.text(max_size=5)).map("".join))
def test_any_reply_can_be_parsed_and_no_text_is_added(text: str) -> None:
    reply = parse_reply(text)
    words = [*(block.text for block in reply.blocks), reply.bare_text]
    assert sum(map(len, words)) <= len(text)


@given(st.text(alphabet=st.characters(exclude_characters="<>`~"), min_size=1).filter(str.strip))
def test_a_block_carries_its_text_unchanged(text: str) -> None:
    assert parse_reply(f'<message to="home">{text}</message>').blocks == (Block(text=text.strip(), to="home"),)


BOOK = AddressBook(
    destinations=(
        Destination(name="home", display_name="Home"),
        Destination(name="boss", display_name="The Boss"),
        Destination(name="other", display_name="Twin"),
        Destination(name="third", display_name="Twin"),
    ),
    default="home",
)
ONE = AddressBook(destinations=BOOK.destinations[:1], default="home")


def row(seq: int, *, chat: str | None = "c1", trigger: bool = True) -> MessageIn:
    return MessageIn(
        seq=seq,
        id=f"m{seq}",
        kind=InKind.CHAT,
        timestamp=datetime(2026, 11, 21, tzinfo=UTC),
        status="pending",
        process_after=None,
        tries=0,
        trigger=trigger,
        on_wake=False,
        origin=None if chat is None else RowOrigin(channel_type="t", instance="i", platform_id=chat),
        content="{}",
    )


ROWS = [row(2), row(4), row(6, trigger=False)]
TWO = [row(2, chat="c1"), row(4, chat="c2")]
HERE = ReplyContext(ROWS, turn_messages=ROWS)
TWO_CHATS = ReplyContext(TWO, turn_messages=TWO)
FOLLOW_UP_FROM_ELSEWHERE = ReplyContext(TWO[1:], turn_messages=TWO)
NOWHERE = ReplyContext([row(2, chat=None)], turn_messages=[])


@pytest.mark.behaviour("RU-07")
@pytest.mark.parametrize(
    ("to", "re", "origin", "expected"),
    [
        (None, None, HERE, Address(in_reply_to="m4")),
        (None, 2, HERE, Address(in_reply_to="m2")),
        (None, 99, HERE, Address(in_reply_to="m4")),
        ("home", None, HERE, Address(in_reply_to="m4")),
        ("home", 2, HERE, Address(in_reply_to="m2")),
        ("HOME ", None, HERE, Address(in_reply_to="m4")),
        ("boss", None, HERE, Address(destination="boss")),
        ("the boss", None, HERE, Address(destination="boss")),
        ("boss", 2, HERE, Address(destination="boss", in_reply_to="m2")),
        ("home", None, TWO_CHATS, Address(destination="home")),
        ("home", None, FOLLOW_UP_FROM_ELSEWHERE, Address(destination="home")),
        (None, None, FOLLOW_UP_FROM_ELSEWHERE, Address(in_reply_to="m4")),
        (None, 2, FOLLOW_UP_FROM_ELSEWHERE, Address(in_reply_to="m2")),
        (None, None, NOWHERE, Address()),
    ],
)
def test_an_answer_is_addressed_to_the_chat_of_its_messages(
    to: str | None, re: int | None, origin: ReplyContext, expected: Address
) -> None:
    assert resolve_address(to, re, book=BOOK, reply_context=origin) == expected


@pytest.mark.behaviour("RU-06")
@pytest.mark.parametrize("to", ["nobody", "twin", ""])
def test_an_unknown_destination_is_a_described_problem(to: str) -> None:
    where = resolve_address(to, None, book=BOOK, reply_context=HERE)
    assert isinstance(where, UnreachableTarget)
    assert "'home', 'boss'" in where.problem


@pytest.mark.behaviour("RU-06")
def test_unaddressed_text_is_sent_only_if_its_destination_is_clear() -> None:
    assert resolve_bare_address(book=ONE, reply_context=HERE) == Address(in_reply_to="m4")
    assert resolve_bare_address(book=AddressBook(), reply_context=HERE) == Address(in_reply_to="m4")
    assert isinstance(resolve_bare_address(book=BOOK, reply_context=HERE), UnreachableTarget)
    assert isinstance(resolve_bare_address(book=ONE, reply_context=TWO_CHATS), UnreachableTarget)
