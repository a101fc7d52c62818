"""What people send to a business number, of every kind, and what the agent reads of it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.whatsapp import parse_webhook
from nanohost.inbox.sanitize import EMPTY_MESSAGE, find_problem, sanitize
from nanohost.testing.content import ContentKind
from nanohost.testing.simulators.whatsapp import NUMBER, NUMBER_ID, WhatsAppSimulator
from tests.support.agent_view import render_events

_CONTENT = [
    *("type", "text", "image", "interactive", "button", "reaction", "location", "contacts", "order", "edit", "revoke"),
    *("system", "unsupported", "errors", "context", "referral", "audio"),
]
_INNER = [
    *("id", "body", "emoji", "message_id", "latitude", "longitude", "name", "phones", "org", "product_items"),
    *("nfm_reply", "response_json", "button_reply", "title", "original_message_id", "message", "type", "text", "from"),
    *("forwarded", "referred_product", "call_permission_reply", "formatted_name", "product_retailer_id", "quantity"),
]
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(_CONTENT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_INNER), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(_CONTENT), _ANYTHING, max_size=6))
@pytest.mark.content(ContentKind.UNREADABLE)
def test_every_message_with_an_author_a_time_and_an_id_is_reported(content: dict[str, object]) -> None:
    message = {**content, "id": "wamid.1", "from": "1001", "timestamp": "1750000000"}
    [event] = parse_webhook(WhatsAppSimulator().payload(messages=[message]), NUMBER_ID)[0]
    is_text = content.get("type") == "text" or event.text.strip() != ""
    assert find_problem(event) in (None, *([EMPTY_MESSAGE] if is_text else []))
    assert render_events(sanitize(event, has_threads=False))


def test_null_fields_are_treated_as_missing() -> None:
    place = {"latitude": 52.5, "longitude": 13.4, "name": None, "address": None}
    message = {"id": "m", "from": "1001", "timestamp": "1750000000", "type": "location", "location": place}
    body = WhatsAppSimulator().payload(messages=[{**message, "context": None}])
    [event] = parse_webhook(body, NUMBER_ID)[0]
    assert [part.text for part in event.parts] == ["52.5, 13.4"]


@pytest.mark.content(ContentKind.CONTACT)
def test_every_one_of_many_contacts_is_listed() -> None:
    cards = [{"name": {"formatted_name": f"Person {n}"}, "phones": [{"phone": f"+1555{n:04}"}]} for n in range(257)]
    prompt = _read({"type": "contacts", "contacts": cards})
    assert [n for n in range(257) if f"Person {n}, +1555{n:04}" not in prompt] == []
    assert "cut" not in prompt


@pytest.mark.parametrize(
    "content", [{"type": "contacts", "contacts": []}, {"type": "button", "button": {"text": " ", "payload": "p"}}]
)
@pytest.mark.content(ContentKind.UNREADABLE)
def test_a_message_without_content_is_described_by_its_kind(content: dict[str, object]) -> None:
    sentence = f"a message that cannot be shown here: {content['type']}"
    assert sentence in _read(content)
    edit = {"original_message_id": "wamid.0", "message": content}
    assert sentence in _read({"type": "edit", "edit": edit})


@pytest.mark.content(ContentKind.ORDER)
def test_an_order_lists_prices_as_far_as_they_are_known() -> None:
    items = [{"product_retailer_id": "cake", "quantity": 2}, {"product_retailer_id": "tea", "item_price": 1}]
    items.append({"product_retailer_id": "jam", "item_price": 3.5, "currency": "EUR"})
    read = _read({"type": "order", "order": {"product_items": items}})
    assert [line for line in ("2 x cake\n", "1 x tea (1.00)\n", "1 x jam (3.50 EUR)") if line not in read] == []


@pytest.mark.content(ContentKind.ORDER)
def test_the_omitted_rest_of_a_long_order_is_counted() -> None:
    item = {"product_retailer_id": "p", "quantity": 1, "item_price": 1, "currency": "EUR"}
    assert "[cut: 10 more]" in _read({"type": "order", "order": {"product_items": [item] * 60}})
    form = {"type": "nfm_reply", "nfm_reply": {"response_json": json.dumps({f"q{n}": "yes" for n in range(51)})}}
    assert "[cut: 1 more]" in _read({"type": "interactive", "interactive": form})


def test_a_number_that_only_starts_like_the_bots_is_not_a_mention() -> None:
    simulator = WhatsAppSimulator()
    ours = re.sub(r"\D", "", NUMBER)
    for text, is_ours in ((f"hi @{ours}7", False), (f"hi @{ours}, you", True)):
        message = {"id": "w", "from": "1001", "timestamp": "1750000000", "group_id": "g"}
        [event] = parse_webhook(
            simulator.payload(messages=[message | {"type": "text", "text": {"body": text}}]), NUMBER_ID
        )[0]
        assert event.mentions_bot is is_ours


def _read(content: dict[str, object]) -> str:
    message = {**content, "id": "wamid.1", "from": "1001", "timestamp": "1750000000"}
    [event] = parse_webhook(WhatsAppSimulator().payload(messages=[message]), NUMBER_ID)[0]
    return render_events(sanitize(event, has_threads=False))
