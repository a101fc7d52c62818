"""The cases of a linked device (see tests/support/cases.py): what people send, and what the agent must read of it.

`input` or `input_series`: a `waE2E.Message` as protobuf's JSON; `earlier`: the same, said before; `chosen`: what of a
poll was chosen, which the library decrypts. `chat`: "group" or a direct message.
"""

from __future__ import annotations

import pytest

from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.whatsapp_linked import GROUP, WhatsAppLinkedSimulator
from tests.channels.receiving import run_channel
from tests.support.agent_view import CASE_KEYS as WANTED
from tests.support.agent_view import check_case
from tests.support.cases import Case, case_id_of, cases_for

from .conftest import Make

ADAS = "1001@s.whatsapp.net"
CASES = cases_for("whatsapp_linked")
CASE_KEYS = WANTED | {"earlier", "chosen"}


@pytest.mark.parametrize("case", CASES, ids=case_id_of)
async def test_each_kind_of_message_reaches_the_agent_as_described(
    phone: WhatsAppLinkedSimulator, make: Make, case: Case
) -> None:
    inbox = SuiteInbox()
    chat = GROUP if case.get("chat") == "group" else ADAS
    async with run_channel(make(), inbox):
        if "earlier" in case:
            await phone.say(chat, case["earlier"], message_id="EARLIER")
        for number, content in enumerate(case.get("input_series") or [case["input"]]):
            id = f"SERIES-{number + 1}"
            await phone.say(chat, content, message_id=id, file=b"x", chosen=case.get("chosen"))
        await phone.write(chat, "that was all")
        await inbox.wait_for_accepted("that was all")
    check_case(case, inbox.accepted["earlier" in case : -1])
