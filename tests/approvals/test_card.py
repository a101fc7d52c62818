"""What an approver reads: everything, and no text of a sender or an agent that looks like the host's."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.approvals.card import build_card, compute_digest, format_arguments, format_closed_card, format_facts
from nanohost.approvals.kinds.sender import KIND
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.delivery.render import render
from nanohost.errors import UsageError
from nanohost.model import ApprovalId
from nanohost.rendering import Form, split_message
from nanohost.rendering.message_form import Limits
from nanohost.text import quoting
from nanohost_protocol.payloads import encode
from nanohost_protocol.rows import OutKind

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from("`*_~[]()<>#@!|\\\n\r\t -+.:/&\"'0123456789abcxyz│┊⟨\u202e\u200b\u2028\u2066\x00\x1b"),
        st.characters(),
    ),
    max_size=300,
)
WORDS = st.sampled_from(
    [
        "\n# Approved",
        "\n**Who:** your mother",
        "```\n**They wrote:** hi\n```",
        "[Let them in](https://evil.example)",
        "<https://evil.example|Let them in>",
        "@everyone <@U123> <!channel> @olga",
        "<b>Approved</b><a href='https://evil.example'>x</a>",
        "\n/approve aaaaaa",
        "\u202egnorw",
        "||spoiler|| __init__ ~~gone~~",
        "1. Let them in\n2. Refuse",
    ]
)
THEIRS = st.lists(st.one_of(NASTY, WORDS), max_size=4).map("".join)


def make_approval(name: str, text: str) -> Approval:
    shown = format_facts(
        f"May {quoting.name(name)} talk to main?",
        [
            ("Who", quoting.name(name)),
            ("They wrote", "\n" + quoting.quote_block(text, limit=quoting.MAX_MESSAGE_CHARS)),
        ],
    )
    return Approval(
        id=ApprovalId("k3f7qd"),
        kind="sender",
        subject="x",
        agent_group_id=None,
        rendered_text=shown,
        options=("Let them in", "Refuse"),
        payload="{}",
        requested_by="fake:bob",
        origin=None,
        session_id=None,
        seq=None,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        digest=compute_digest(shown, "{}"),
    )


def on_platform(approval: Approval, form: Form, most: int = 100_000) -> list[tuple[str, str]]:
    """The messages as they are sent, and in plain words."""
    said = render(OutKind.CARD, encode(build_card(approval, KIND, UTC)), with_options=False) or ""
    return [(part.text, part.plain) for part in split_message(said, form, Limits(max_length=most))]


@pytest.mark.behaviour("AP-02")
@given(name=THEIRS, text=THEIRS, form=st.sampled_from(list(Form)))
def test_text_of_the_sender_never_forms_a_line_of_the_card(name: str, text: str, form: Form) -> None:
    """In plain text every line is one of the host's, or begins with the quote bar."""
    ours = re.compile(
        r"(May .* talk to main\?$|Who: |They wrote:$|Until: |Press, or type |… and [\d,]+ characters more|$)"
    )
    for _, plain in on_platform(make_approval(name, text), form):
        for line in plain.split("\n"):
            shown = line.replace("**", "").replace("`", "").replace("*", "")
            assert shown.startswith(("│ ", "┊ ", "│", "┊")) or ours.match(shown), line
        assert plain.count("\nUntil: ") + plain.count("\n**Until:** ") <= 1
        assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", plain)


@pytest.mark.behaviour("AP-02")
@given(name=THEIRS, text=THEIRS)
def test_telegram_parses_no_link_or_tag_from_the_senders_text(name: str, text: str) -> None:
    for sent, _ in on_platform(make_approval(name, text), Form.TELEGRAM):
        assert set(re.findall(r"</?([a-z-]+)", sent)) <= {"b", "code", "pre", "i"}
        bold = re.findall(r"<b>(.*?)</b>", sent, re.DOTALL)
        title = {"May", "talk to main?", "May somebody without a name talk to main?"}
        assert set(bold) <= {*title, "Who:", "They wrote:", "Until:"}


@pytest.mark.behaviour("AP-02")
@given(name=THEIRS, text=THEIRS, form=st.sampled_from([Form.SLACK, Form.SLACK_MARKDOWN, Form.DISCORD, Form.WHATSAPP]))
def test_text_of_the_sender_appears_only_inside_code_spans(name: str, text: str, form: Form) -> None:
    for sent, _ in on_platform(make_approval(name, text), form):
        outside = re.sub(r"`+ ?[^`]*?`+", "", re.sub(r"```.*?\n```", "", sent, flags=re.DOTALL))
        assert "evil" not in outside
        if form is not Form.WHATSAPP:  # which reads no name in a text as a call
            assert not re.search(r"@(everyone|here|channel)\b|<[@#!&]", sent)


@pytest.mark.behaviour("AP-02")
def test_a_card_states_who_what_the_deadline_and_how_to_answer_without_buttons() -> None:
    [(sent, plain)] = on_platform(make_approval("Bob", "hello"), Form.MARKDOWN)
    assert "**Until:** Fri 02 Jan 2026, 12:00 (UTC)" in sent
    assert "`/approve k3f7qd` or `/deny k3f7qd why`" in sent
    assert "│ hello" in plain


@pytest.mark.behaviour("AP-02")
def test_a_long_message_is_truncated_with_the_number_of_characters_left_out() -> None:
    shown = quoting.quote_block("a" * 1_734, limit=500)
    assert shown.count("a" * 100) == 5
    assert shown.endswith("… and 1,234 characters more")


@pytest.mark.behaviour("AP-02")
def test_every_argument_is_shown_in_full_with_invisible_characters_as_code_points() -> None:
    arguments = {"prompt": "first\nsecond \u202e", "when": ["a", {"b": 1}], "count": 5}
    lines = dict(format_arguments(json.dumps(arguments)))
    assert list(lines) == ["`prompt`", "`when`", "`count`"]
    assert "│ “first\n│ second ⟨U+202E⟩”" in lines["`prompt`"]
    assert '"b": 1' in lines["`when`"]
    assert lines["`count`"] == "`5`"


@pytest.mark.behaviour("AP-02", "AP-05")
@pytest.mark.parametrize("arguments", ['{"a": 1, "a": 2}', "[1]", "{", '{"a": {"b": 1, "b": 2}}', "[" * 100_000])
def test_ambiguous_arguments_are_not_shown(arguments: str) -> None:
    with pytest.raises(UsageError):
        format_arguments(arguments)


@pytest.mark.behaviour("AP-02")
@given(text=st.text(max_size=400))
def test_different_texts_look_different_when_quoted(text: str) -> None:
    """Different line endings are the exception, because nobody sees them."""
    for other in (
        text.replace("\u202e", "⟨U+202E⟩") + "x",
        text + "\u200b",
        text + "\n",
        "\u202e" + text,
        text.replace("a", "\u0430") + "x",
    ):
        assert quoting.quote_block(other) != quoting.quote_block(text)


@pytest.mark.behaviour("AP-04")
def test_a_decision_is_a_message_of_its_own_where_a_card_cannot_be_edited() -> None:
    text = format_closed_card(
        make_approval("Bob", "hello"),
        status=ApprovalStatus.APPROVED,
        decided_by="`Ada`",
        outcome="`Bob` may talk to main now.",
        now=NOW,
        zone=UTC,
    )
    assert text == ("**May `Bob` talk to main?** (`k3f7qd`)\nApproved by `Ada`, 12:00: `Bob` may talk to main now.")
