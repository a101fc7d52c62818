"""The cases of WhatsApp's Cloud API (see tests/support/cases.py): what people send, and what the agent must read of it.

`input` or `input_series`: a message as Meta's webhooks have it, beside who wrote and when; `from` names Bob, else it is
Ada. `chat`: "group" or a direct message.
"""

from __future__ import annotations

import pytest

from channels.whatsapp import WhatsAppChannel, read_settings
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import ADA, BOB
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator
from tests.channels.receiving import run_channel
from tests.support.agent_view import CASE_KEYS as CASE_KEYS
from tests.support.agent_view import check_case
from tests.support.cases import Case, case_id_of, cases_for

GROUP = "Y2Fw"
CASES = cases_for("whatsapp")


@pytest.mark.parametrize("case", CASES, ids=case_id_of)
async def test_each_kind_of_message_reaches_the_agent_as_described(
    meta: WhatsAppSimulator, inbox: SuiteInbox, case: Case
) -> None:
    is_group = case.get("chat") == "group"
    chat = GROUP if is_group else ADA.id
    async with run_channel(WhatsAppChannel(read_settings(meta.settings())), inbox):
        for content in case.get("input_series") or [case["input"]]:
            person = BOB if content.get("from") == BOB.id else ADA
            await meta.say(chat, content, person=person, group=is_group, message_id=content.get("id"))
        await meta.write(chat, "that was all", group=is_group)
        await inbox.wait_for_accepted("that was all")
    check_case(case, inbox.accepted[:-1])
