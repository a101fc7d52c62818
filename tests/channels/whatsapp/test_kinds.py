"""What people send to a business number, of every kind, and what the agent reads of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.whatsapp import parse_webhook
from nanohost.intake.cleaning import NOTHING_IN_IT, cleaned, problem_of
from nanohost.testing.content import Content
from nanohost.testing.simulators.whatsapp import NUMBER_ID, WhatsAppSimulator
from tests.support.arrivals import as_read

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
@pytest.mark.content(Content.UNREADABLE)
def test_every_message_with_an_author_a_time_and_an_id_is_told(content: dict[str, object]) -> None:
    message = {**content, "id": "wamid.1", "from": "1001", "timestamp": "1750000000"}
    [event] = parse_webhook(WhatsAppSimulator().payload(messages=[message]), NUMBER_ID)[0]
    assert problem_of(event) in (None, NOTHING_IN_IT)
    assert as_read(cleaned(event, threads=False))


def test_what_is_null_is_not_there() -> None:
    place = {"latitude": 52.5, "longitude": 13.4, "name": None, "address": None}
    message = {"id": "m", "from": "1001", "timestamp": "1750000000", "type": "location", "location": place}
    body = WhatsAppSimulator().payload(messages=[{**message, "context": None}])
    [event] = parse_webhook(body, NUMBER_ID)[0]
    assert [part.text for part in event.parts] == ["52.5, 13.4"]
