"""What people send to a business number, of every kind, and what the agent reads of it."""

from __future__ import annotations

import pytest

from channels.whatsapp import WhatsAppChannel, read_settings
from nanohost.channel_api import InboundEvent
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import ADA, BOB
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator
from tests.channels.whatsapp import test_late_failures
from tests.support.arrivals import ROOT, Case, cases, check, inputs, table

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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_what_somebody_sends_is_read_as_what_it_is(meta: WhatsAppSimulator, case: Case) -> None:
    check(case, await _arrived(meta, case))


async def test_the_page_says_what_arrives_as_what(meta: WhatsAppSimulator) -> None:
    rows = [(case, await _arrived(meta, case)) for case in CASES]
    page = (ROOT / "docs" / "channels" / "whatsapp.md").read_text(encoding="utf-8")
    assert table(rows) in page, f"the page lacks this table:\n\n{table(rows)}"


def test_every_case_without_an_input_has_a_test_of_its_own() -> None:
    assert {case["name"] for case in cases("whatsapp") if "then" in case} == TESTS.keys()
