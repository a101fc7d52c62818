"""The content of a row: decoding is strict, and encoded payloads decode to themselves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost_protocol.errors import PayloadError
from nanohost_protocol.payloads import (
    IN_PAYLOADS,
    MAX_CONTENT_BYTES,
    OUT_PAYLOADS,
    ChatIn,
    InPayload,
    OutPayload,
    TaskOut,
    decode_in,
    decode_out,
    encode,
)
from nanohost_protocol.rows import InKind, OutKind

KINDS: list[tuple[str, dict[str, object]]] = [
    ("in:chat", {"text": "hi", "sender": "Ada", "sender_id": "u1"}),
    ("in:task", {"prompt": "p"}),
    ("in:webhook", {"source": "s", "body": "b"}),
    ("in:system", {"text": "t"}),
    ("in:control", {"command": "c"}),
    ("out:chat", {"text": "t"}),
    ("out:card", {"title": "t", "body": "b"}),
    ("out:question", {"text": "t", "options": ["a", "b"]}),
    ("out:edit", {"message": 1, "text": "t"}),
    ("out:reaction", {"message": 1, "emoji": "e"}),
    ("out:file", {"name": "n"}),
    ("out:task", {"prompt": "p", "due": "d"}),
    ("out:system", {"action": "a", "arguments": "{}"}),
]
OPTIONAL: dict[str, dict[str, object]] = {
    "in:chat": {"event": "edit", "refers_to": None},
    "in:task": {"script": "true"},
    "in:system": {"about": None},
    "out:card": {"options": []},
    "out:file": {"caption": "c"},
    "out:task": {"recurrence": None, "timezone": "UTC"},
}


def decode(kind: str, content: str) -> InPayload | OutPayload:
    side, name = kind.split(":")
    return decode_in(name, content) if side == "in" else decode_out(name, content)


def test_the_table_names_every_kind() -> None:
    assert {kind for kind, _ in KINDS} == {f"in:{kind}" for kind in InKind} | {f"out:{kind}" for kind in OutKind}


@pytest.mark.parametrize(("kind", "document"), KINDS)
class TestEveryKind:
    def test_the_required_fields_are_enough_and_decode_to_themselves(
        self, kind: str, document: dict[str, object]
    ) -> None:
        payload = decode(kind, json.dumps(document))
        assert decode(kind, encode(payload)) == payload

    def test_optional_fields_are_accepted(self, kind: str, document: dict[str, object]) -> None:
        decode(kind, json.dumps(document | OPTIONAL.get(kind, {})))

    def test_an_unknown_key_is_refused_by_name(self, kind: str, document: dict[str, object]) -> None:
        with pytest.raises(PayloadError, match="unknown key 'surprise'"):
            decode(kind, json.dumps(document | {"surprise": 1}))

    def test_each_missing_key_is_refused_by_name(self, kind: str, document: dict[str, object]) -> None:
        for key in document:
            rest = {each: value for each, value in document.items() if each != key}
            with pytest.raises(PayloadError, match=f"'{key}' is missing"):
                decode(kind, json.dumps(rest))

    def test_each_wrong_type_is_refused_by_name(self, kind: str, document: dict[str, object]) -> None:
        for key in document:
            for wrong in (None, True, 1.5, [1], [["nested"]], {"text": "nested"}, 7 if key != "message" else "7"):
                with pytest.raises(PayloadError, match=f"key '{key}"):
                    decode(kind, json.dumps(document | {key: wrong}))

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "null",
            "[]",
            '"text"',
            "7",
            "NaN",
            "{}x",
            "\x00",
            "[" * 100_000,
            '{"text":' * 100_000,
            '{"message":' + "9" * 10_000 + "}",
            "\ud800",
        ],
        ids=range(13),
    )
    def test_content_that_is_not_a_json_object_is_refused(
        self, kind: str, document: dict[str, object], content: str
    ) -> None:
        with pytest.raises(PayloadError):
            decode(kind, content)


def test_true_is_not_a_number() -> None:
    with pytest.raises(PayloadError, match="'message' must be int, not bool"):
        decode_out("edit", '{"message": true, "text": "t"}')


def test_a_wrong_list_item_is_named_by_its_position() -> None:
    with pytest.raises(PayloadError, match=r"'options\[1\]' must be str"):
        decode_out("question", '{"text": "t", "options": ["a", 2]}')


def test_an_unknown_kind_is_refused() -> None:
    for decode_side in (decode_in, decode_out):
        with pytest.raises(PayloadError, match="unknown kind 'poem'"):
            decode_side("poem", "{}")


def test_kinds_of_the_other_side_are_refused() -> None:
    with pytest.raises(PayloadError, match="unknown kind"):
        decode_in("reaction", "{}")
    with pytest.raises(PayloadError, match="unknown kind"):
        decode_out("control", "{}")


def test_content_that_is_too_long_is_refused_without_parsing() -> None:
    with pytest.raises(PayloadError, match="longer than"):
        decode_out("chat", json.dumps({"text": "x" * MAX_CONTENT_BYTES}))


def test_a_refusal_is_short_however_long_the_key() -> None:
    with pytest.raises(PayloadError) as caught:
        decode_out("chat", json.dumps({"k" * 1_000_000: 1}))
    assert len(str(caught.value)) < 200


def test_equal_payloads_give_equal_text() -> None:
    one = decode_in("chat", '{"text": "a", "sender": "b", "sender_id": "c"}')
    other = decode_in("chat", '{"sender_id": "c", "sender": "b", "event": "message", "text": "a", "refers_to": null}')
    assert encode(one) == encode(other)


@given(payload=st.one_of([st.builds(each) for each in (*IN_PAYLOADS.values(), *OUT_PAYLOADS.values())]))
def test_an_encoded_payload_decodes_to_itself(payload: InPayload | OutPayload) -> None:
    kinds = {each: f"in:{kind}" for kind, each in IN_PAYLOADS.items()} | {
        each: f"out:{kind}" for kind, each in OUT_PAYLOADS.items()
    }
    assert decode(kinds[type(payload)], encode(payload)) == payload


@given(payload=st.builds(OUT_PAYLOADS[OutKind.CARD]))
def test_encoded_text_is_ascii(payload: OutPayload) -> None:
    assert encode(payload).isascii()


def test_a_field_added_later_does_not_change_the_encoding_unless_used() -> None:
    """Ids are derived from content: a turn that began under another version must find its own rows."""
    assert encode(TaskOut(prompt="p", due="d")) == '{"due":"d","prompt":"p","recurrence":null}'
    used = TaskOut(prompt="p", due="d", timezone="UTC")
    assert decode_out("task", encode(used)) == used


def test_an_answer_names_its_question_and_other_messages_are_encoded_as_before() -> None:
    plain = ChatIn(text="hi", sender="Ada", sender_id="u1")
    assert "answers" not in encode(plain)
    used = ChatIn(text="Red", sender="Ada", sender_id="u1", answers="o1")
    assert decode_in("chat", encode(used)) == used
