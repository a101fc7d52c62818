"""Every kind of content of a platform can be sent by its simulator, and reaches the host as that kind. What the agent
reads of each example is on the platform's page, see tests/pages."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest

from nanohost.channel_api import EventKind, PartKind
from nanohost.testing.content import OTHER_INPUTS, UNSUPPORTED_CONTENT, ContentKind, supported_content
from nanohost.testing.manual_clock import START
from nanohost.testing.simulated_chat import find_simulator, make_interactive_simulator, serve_terminal, simulator_names
from tests.channels.examples import ReceivedExample, receive_examples

EXAMPLES = [
    pytest.param(platform, name, id=f"{platform}-{name}")
    for platform in simulator_names()
    for name in find_simulator(platform).example_names()
]
OWN_COMMENT = "is that right?"
CHANGES = {
    ContentKind.EDIT: EventKind.EDIT,
    ContentKind.EDIT_WITH_MENTION: EventKind.EDIT,
    ContentKind.DELETION: EventKind.DELETION,
    ContentKind.REACTION: EventKind.REACTION,
    ContentKind.REACTION_REMOVED: EventKind.REACTION_REMOVED,
}
SAYS_IT_AS_A_MESSAGE = "whatsapp"
"""Meta sends some of its own system messages like messages of the person."""


@pytest.mark.parametrize("platform", simulator_names())
def test_a_simulator_has_an_example_of_every_supported_kind(platform: str) -> None:
    shown = find_simulator(platform).content_examples()
    assert [kind for kind in supported_content(platform) if kind not in shown] == _by_other_means(platform)
    assert [kind for kind in shown if kind in UNSUPPORTED_CONTENT[platform]] == [], "it is said not to be there"


@pytest.mark.parametrize("platform", simulator_names())
async def test_each_kind_and_each_example_can_be_sent_from_the_terminal(platform: str) -> None:
    simulator = find_simulator(platform)
    kinds = [kind for kind in supported_content(platform) if kind not in _by_other_means(platform)]
    for names in (kinds, simulator.example_names()):
        written, shown = await _typed(platform, *(f"/send {name}" for name in names))
        assert written == len(names) > 20
        assert "nothing called" not in shown
    assert not any("," in name for name in simulator.example_names()), "they are listed with commas between them"


@pytest.mark.parametrize("platform", simulator_names())
async def test_the_kinds_that_can_be_sent_are_listed(platform: str) -> None:
    written, shown = await _typed(platform, "/send")
    assert written == 0
    assert [kind for kind in ContentKind if f"\n  {kind}: " in shown] == supported_content(platform)
    assert [kind for kind in _by_other_means(platform) if f"\n  {kind}: {OTHER_INPUTS[kind]}\n" not in shown] == []
    assert [name for name in find_simulator(platform).example_names() if name not in shown] == []
    written, shown = await _typed(platform, "/send a fish")
    assert (written, "nothing called 'a fish' to send: /send alone lists" in shown) == (0, True)


@pytest.mark.parametrize("platform", simulator_names())
async def test_a_restarted_simulator_repeats_no_id(platform: str) -> None:
    lives = [make_interactive_simulator(platform, START + timedelta(seconds=passed)) for passed in (0, 1)]
    made = []
    for simulator in lives:
        await serve_terminal(simulator, io.StringIO("hello\nagain\n"), io.StringIO())
        made.append({one.id for one in simulator.screen(simulator.dm, sender=None)})
    assert [len(ids) for ids in made] == [2, 2]
    assert not made[0] & made[1], "a host would take what is written for a repeat, and answer nothing"


def _by_other_means(platform: str) -> list[ContentKind]:
    return [kind for kind in supported_content(platform) if kind in OTHER_INPUTS]


async def _typed(platform: str, *lines: str) -> tuple[int, str]:
    """The number of messages that were written, and the output of the terminal."""
    shown = io.StringIO()
    written = await serve_terminal(find_simulator(platform), io.StringIO("".join(f"{line}\n" for line in lines)), shown)
    return written, shown.getvalue()


@pytest.mark.parametrize(("platform", "name"), EXAMPLES)
def test_each_example_reaches_the_host_as_its_kind(platform: str, name: str) -> None:
    told = receive_examples(platform)[name]
    match told.content:
        case ContentKind.SERVICE:
            assert not told.events or platform == SAYS_IT_AS_A_MESSAGE
        case ContentKind.ID_CHANGED:
            assert told.moves or told.events
        case _:
            assert told.events
            assert all(one.text or one.parts or one.attachments or one.refers_to for one in told.events), "silence"
    _check_whose_words(told)
    if told.content in CHANGES:
        *_, change = told.events
        assert change.kind is CHANGES[told.content]
        assert change.refers_to == told.events[0].platform_message_id


def _check_whose_words(told: ReceivedExample) -> None:
    """Somebody else's text is never the sender's own."""
    if told.content is ContentKind.FORWARD:
        assert {one.text for one in told.events} <= {"", OWN_COMMENT}
        assert told.events[0].parts[0].kind is PartKind.FORWARDED
    if told.content is ContentKind.REPLY:
        assert "Tuesday" not in told.events[0].text
        assert told.events[0].parts[0].kind is PartKind.QUOTED
    if told.content is ContentKind.APP:
        assert told.events[0].text == "" or told.events[0].sender.is_bot
