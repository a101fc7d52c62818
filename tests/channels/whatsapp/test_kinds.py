"""What people send to a business number, of every kind, and what the agent reads of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.whatsapp import WhatsAppChannel, parse_webhook, read_settings
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.intake.cleaning import NOTHING_IN_IT, cleaned, problem_of
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import ADA, BOB
from nanohost.testing.simulators.whatsapp import NUMBER_ID, WhatsAppSimulator
from tests.channels.whatsapp import test_late_failures
from tests.support.arrivals import ROOT, Case, as_read, cases, check, inputs, table

from .conftest import receiving

GROUP = "Y2Fw"
CASES = inputs("whatsapp")
TESTS = {
    "refused after it was taken (outside the window)": (
        test_late_failures.test_what_whatsapp_gives_up_on_later_is_failed_with_the_reason_also_over_a_restart
    )
}
"""Which test shows what a case without an input says."""


async def _arrived(meta: WhatsAppSimulator, case: Case) -> list[InboundEvent]:
    """What the host is told of the case; the last thing said shows that nothing more comes."""
    inbox = SuiteInbox()
    is_group = case.get("chat") == "group"
    chat = GROUP if is_group else ADA.id
    async with receiving(WhatsAppChannel(read_settings(meta.settings())), inbox):
        for content in case.get("input_series") or [case["input"]]:
            person = BOB if content.get("from") == BOB.id else ADA
            await meta.say(chat, content, person=person, group=is_group, message_id=content.get("id"))
        await meta.write(chat, "that was all", group=is_group)
        await inbox.until_accepted("that was all")
    return inbox.accepted[:-1]


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_what_somebody_sends_is_read_as_what_it_is(meta: WhatsAppSimulator, case: Case) -> None:
    check(case, await _arrived(meta, case))


async def test_the_page_says_what_arrives_as_what(meta: WhatsAppSimulator) -> None:
    rows = [(case, await _arrived(meta, case)) for case in CASES]
    page = (ROOT / "docs" / "channels" / "whatsapp.md").read_text(encoding="utf-8")
    assert table(rows) in page, f"the page lacks this table:\n\n{table(rows)}"


async def test_whatever_the_simulator_can_send_is_told(meta: WhatsAppSimulator, inbox: SuiteInbox) -> None:
    async with receiving(WhatsAppChannel(read_settings(meta.settings())), inbox):
        for kind in meta.kinds():
            await meta.send_kind(kind, ADA.id)
        await meta.write(ADA.id, "that was all")
        await inbox.until_accepted("that was all")
    assert len(inbox.accepted) == len(meta.kinds()) + 5, (
        "a change and a deletion are two events, a reaction that is taken back three"
    )
    empty = [one for one in inbox.accepted if not (one.text or one.parts or one.attachments)]
    assert [one.kind for one in empty] == [EventKind.DELETION, EventKind.REACTION_REMOVED]
    assert all(one.refers_to for one in empty)


def test_every_case_without_an_input_has_a_test_of_its_own() -> None:
    assert {case["name"] for case in cases("whatsapp") if "then" in case} == TESTS.keys()
