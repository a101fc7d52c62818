"""Usage is read from forwarded bytes, however they are split, whatever they are."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.gateway.model_call import Usage
from nanohost.gateway.usage_reader import (
    MAX_DOCUMENT_BYTES,
    MAX_EVENT_BYTES,
    MAX_TOKENS,
    ResponseSummary,
    StreamReader,
    UsageReader,
    reader_for,
)


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


START = event(
    "message_start",
    message={
        "model": "claude-test",
        "usage": {
            "input_tokens": 3,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 5,
            "output_tokens": 1,
        },
    },
)
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77}) + event("message_stop")
STREAM = START + delta('Grüße, "usage": {"output_tokens": 9999} "message_delta"') + END
USAGE = Usage(tokens_in=3, tokens_out=77, tokens_cached=40, tokens_cache_written=5)


def read(*chunks: bytes, content_type: str = "text/event-stream") -> ResponseSummary:
    reader: UsageReader = reader_for(content_type)
    for chunk in chunks:
        reader.feed(chunk)
    reader.close()
    return reader.summary


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM))), st.sampled_from([b"\n", b"\r\n"]))
def test_a_stream_reads_the_same_however_it_is_split_into_chunks(cuts: list[int], newline: bytes) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end].replace(b"\n", newline) for start, end in pairwise(edges)]
    found = read(*chunks)
    assert (found.model, found.usage, found.is_complete, found.error) == ("claude-test", USAGE, True, "")


@given(st.lists(st.binary() | st.sampled_from([START, END, b"data: ", b"\n", b'{"type":"error"']), max_size=20))
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", ""])
def test_no_input_raises_an_exception(content_type: str, chunks: list[bytes]) -> None:
    read(*chunks, content_type=content_type)


names = st.sampled_from(["type", "usage", "message", "error", "model", "input_tokens", "output_tokens"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(["message_start", "message_delta", "error", "message"]), json_values)
def test_events_of_any_shape_are_read_without_an_exception(kind: str, value: object) -> None:
    found = read(event(kind, message=value, usage=value, error=value))
    assert 0 <= found.usage.tokens_in <= MAX_TOKENS
    assert isinstance(found.model, str)


@pytest.mark.parametrize("count", [-1, True, "7", 1.5, None, 2**60])
def test_an_invalid_token_count_is_ignored(count: object) -> None:
    assert read(START, event("message_delta", usage={"output_tokens": count})).usage.tokens_out == 1


def test_a_stream_that_stops_early_has_the_usage_seen_so_far() -> None:
    found = read(START, delta("Once upon a"))
    assert found.usage.tokens_in == 3
    assert not found.is_complete


def test_an_error_in_the_stream_is_kept_with_its_message() -> None:
    found = read(START, event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert found.error == "overloaded_error: Overloaded"


def test_a_line_that_is_too_long_is_skipped_and_the_next_are_read() -> None:
    long = delta('"message_delta"' + "x" * 3 * MAX_EVENT_BYTES)
    reader = StreamReader()
    for start in range(0, len(long), 1000):
        reader.feed(long[start : start + 1000])
        assert len(reader._line) <= MAX_EVENT_BYTES
    reader.feed(START)
    assert reader.summary.usage.tokens_in == 3


def test_an_answer_as_one_document_has_the_same_usage() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}
    whole = json.dumps({"type": "message", "model": "m", "content": [], "usage": usage}).encode()
    found = read(whole[:20], whole[20:], content_type="application/json")
    assert found.usage == Usage(tokens_in=1, tokens_out=2, tokens_cached=3, tokens_cache_written=4)
    assert (found.model, found.is_complete) == ("m", True)


def test_a_document_that_is_too_long_is_not_kept() -> None:
    found = read(b"{", b" " * MAX_DOCUMENT_BYTES, b"}", content_type="application/json")
    assert found.usage == Usage()


def test_a_deeply_nested_document_counts_nothing() -> None:
    assert read(b"[" * 200_000, content_type="application/json").usage == Usage()
