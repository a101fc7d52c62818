"""Slack: which events are received, and how the channel recovers from an outage."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from channels.slack import LATE_DELIVERY_S, MAX_PAGES, SlackChannel, _to_readable
from nanohost.channel_api import (
    Accepted,
    Address,
    Button,
    Condition,
    EventKind,
    InboundEvent,
    OutboundCard,
    OutboundText,
    Part,
    PartKind,
)
from nanohost.testing.channel_suite import SuiteInbox, event_identity
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ADA, BOB, Fault
from nanohost.testing.simulators.slack import ME, SlackSimulator
from tests.channels.sending import send_message

from .serving import run_channel

DM, ROOM, OTHER_ROOM = "D1001", "C500", "C501"


# What is handed in


async def test_a_message_in_a_channel_starts_a_thread_and_a_direct_message_does_not(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        root = await slack.write(ROOM, "a question", group=True)
        await slack.write(ROOM, "more of it", group=True, thread=root)
        await slack.write(DM, "between us")
        await slack.write(DM, "in a thread of ours", thread="1700000000.000100")
        await inbox.wait_until(lambda: len(inbox.accepted) == 4)
    by_text = {event.text: event for event in inbox.accepted}
    assert by_text["a question"].thread_id == root
    assert by_text["more of it"].thread_id == root
    assert by_text["between us"].thread_id is None
    assert by_text["in a thread of ours"].thread_id == "1700000000.000100"
    assert by_text["a question"].chat_name == "room-c500"
    assert by_text["between us"].chat_name == "Ada"
    assert abs((by_text["a question"].sent_at - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.behaviour("IN-02")
async def test_a_mention_that_slack_reports_twice_is_one_event(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        ts = await slack.write(ROOM, "what is new?", group=True, mention=True, person=BOB)
        await slack.wait_until(lambda: ts in slack.acknowledged())
    assert len(inbox.accepted) == 2
    assert len({event_identity(event) for event in inbox.accepted}) == 1
    assert inbox.accepted[0] == inbox.accepted[1]
    assert inbox.accepted[0].mentions_bot
    assert inbox.accepted[0].text == "what is new?"


async def test_slack_tags_are_shown_as_people_read_them(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        wire = "ask <@1002> and <@U0NANOHOST> in <#C7|general> &amp; see <https://a.example/x|this> <!here> &lt;b&gt;"
        event = {"type": "message", "channel": DM, "user": "1001", "ts": slack.next_ts(), "text": wire}
        await slack.tell_event(event)
        await inbox.wait_until(lambda: len(inbox.accepted) == 1)
    assert inbox.accepted[0].text == "ask @Bob and @nanohost in #general & see this @here <b>"
    assert inbox.accepted[0].parts == (Part(kind=PartKind.LINK, text="this", url="https://a.example/x"),)


@pytest.mark.parametrize(
    ("wire", "read"),
    [
        ("<https://a.example>", "https://a.example"),
        ("<https://a.example|https://a.example>", "https://a.example"),
        ("<mailto:a@b.example|a@b.example>", "a@b.example"),
        ("<!subteam^S1|@team> <!date^1^{date}|then> <#C1> <@U9>", "@team then #C1 @U9"),
        ("1 &lt; 2 &amp;amp; a < b > c", "1 < 2 &amp; a  b  c"),
        ("&amp;lt;", "&lt;"),
        ("", ""),
    ],
)
def test_tags_are_parsed(wire: str, read: str) -> None:
    assert " ".join(_to_readable(wire, {}).split()) == " ".join(read.split())


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.DELETION, ContentKind.REACTION_REMOVED)
@pytest.mark.case("a message deleted, also one with replies")
async def test_deletions_and_removed_reactions_are_reported(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        dm = await slack.write(DM, "in a DM")
        root = await slack.write(ROOM, "root", group=True, person=BOB)
        reply = await slack.write(ROOM, "reply", group=True, thread=root)
        [ours] = (
            await channel.send(Address(platform_id=DM), OutboundText(text="ours"), idempotency_key="k")
        ).platform_message_ids
        await inbox.wait_until(lambda: len(inbox.accepted) == 3)
        for change in (slack.react, slack.remove_reaction, slack.react):
            await change(dm, "👍", chat=DM)
        await inbox.wait_until(lambda: len(inbox.accepted) == 6)
        await slack.delete(ours, chat=DM)
        await slack.delete(dm, chat=DM)
        await inbox.wait_until(lambda: len(inbox.accepted) == 7)
        await slack.delete(root, chat=ROOM)
        await slack.delete(reply, chat=ROOM)
        await inbox.wait_until(lambda: len(inbox.accepted) == 9)
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    on, off, again, *gone = inbox.accepted[3:]
    reaction, removed = EventKind.REACTION, EventKind.REACTION_REMOVED
    assert [(event.kind, event.text, event.refers_to) for event in (on, off, again)] == [
        (reaction, "👍", dm),
        (removed, "👍", dm),
        (reaction, "👍", dm),
    ]
    assert len({event_identity(event) for event in (on, off, again)}) == 3
    assert [(event.kind, event.text, event.refers_to) for event in gone] == [
        (EventKind.DELETION, "", ts) for ts in (dm, root, reply)
    ]
    assert [(event.platform_id, event.thread_id, event.sender.name) for event in gone] == [
        (DM, None, "Ada"),
        (ROOM, root, "Bob"),
        (ROOM, root, "Ada"),
    ]


@pytest.mark.content(ContentKind.REPLY, ContentKind.THREAD)
async def test_a_thread_attaches_its_parent_once_when_the_bot_is_mentioned_in_it(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    root = await slack.post(ROOM, {"text": "The meeting is on Tuesday", "files": ["plan.txt"]}, person=BOB, group=True)
    other = await slack.write(ROOM, "to be deleted", group=True)
    slack.give_up()
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "chatter", group=True, thread=root)
        first = await slack.write(ROOM, "right?", group=True, thread=root, mention=True)
        await slack.write(ROOM, "sure?", group=True, thread=root, mention=True)
        await slack.write(ROOM, "", group=True, thread=root, mention=True, message_id=first)
        own = await slack.write(ROOM, "a thread of its own", group=True, mention=True)
        await slack.write(ROOM, "go on", group=True, thread=own, mention=True)
        await slack.delete(other, chat=ROOM)
        await slack.write(ROOM, "in a thread that is gone", group=True, thread=other, mention=True)
        await slack.write(ROOM, "the end", group=True)
        await inbox.wait_for_accepted("the end")
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    parent = Part(
        kind=PartKind.QUOTED,
        text="The meeting is on Tuesday\n[file: plan.txt]",
        author="Bob",
        sent_at=datetime.fromtimestamp(float(root), UTC),
    )
    events = {event.text: event for event in inbox.accepted if event.kind is EventKind.MESSAGE}
    assert {text: event.parts for text, event in events.items() if event.parts} == {"right?": (parent,)}
    told = [event for event in inbox.accepted if event.text == "right?"]
    assert (len(told), {event.parts for event in told}) == (4, {(parent,)}), "a repeat is the same event"
    assert "in a thread that is gone" in events


@pytest.mark.content(ContentKind.THREAD)
@pytest.mark.parametrize("what", ["text", "card", "file"])
async def test_a_thread_that_the_bot_wrote_in_attaches_nothing(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, tmp_path: Path, what: str
) -> None:
    root = await slack.write(ROOM, "The meeting is on Tuesday", group=True, person=BOB)
    slack.give_up()
    there = Address(platform_id=ROOM, thread_id=root)
    async with run_channel(channel, inbox):
        await send_message(channel, there, what, tmp_path)
        await slack.write(ROOM, "right?", group=True, thread=root, mention=True)
        event = await inbox.wait_for_accepted("right?")
    assert event.parts == ()


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.EDIT_WITH_MENTION)
@pytest.mark.case("an edit that adds the mention")
async def test_an_edit_that_adds_a_mention_is_marked_and_carries_the_parent(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    root = await slack.write(ROOM, "The meeting is on Tuesday", group=True, person=BOB)
    slack.give_up()
    async with run_channel(channel, inbox):
        reply = await slack.write(ROOM, "right?", group=True, thread=root, file=("plan.txt", b"plan"))
        await slack.edit(reply, "is that right?", chat=ROOM, mention=True)
        await slack.edit(reply, "is that so?", chat=ROOM, mention=True)
        await inbox.wait_until(lambda: len(inbox.accepted) == 5)
    message, *edits = inbox.accepted
    assert (message.mentions_bot, message.parts) == (False, ())
    assert {(event.kind, event.refers_to, event.mentions_bot) for event in edits} == {(EventKind.EDIT, reply, True)}
    assert len({event_identity(event) for event in edits}) == 2, "Slack tells of each twice"
    first = next(event for event in edits if event.text == "is that right?")
    assert (first.parts[0].text, first.thread_id) == ("The meeting is on Tuesday", root)


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.ID_CHANGED)
async def test_a_channel_with_a_new_id_continues_under_it(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox) as ended:
        await slack.rename("C500", "C900")
        await slack.tell_event({"type": "channel_id_changed", "old_channel_id": "C500"})
        await slack.tell_event({"type": "channel_id_changed", "old_channel_id": 5, "new_channel_id": ""})
        await inbox.wait_until(lambda: bool(inbox.moved_chats))
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert (inbox.moved_chats, inbox.accepted, ended) == ([("C500", "C900")], [], [])


async def test_a_link_preview_is_not_an_edit(slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox) -> None:
    async with run_channel(channel, inbox):
        ts = await slack.write(DM, "see https://a.example")
        await slack.preview(ts, chat=DM)
        await slack.write(DM, "the end")
        await inbox.wait_for_accepted("the end")
    assert [event.kind for event in inbox.accepted] == [EventKind.MESSAGE, EventKind.MESSAGE]


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.REACTION, ContentKind.THREAD)
async def test_a_reaction_belongs_to_the_thread_of_its_message_also_after_a_restart(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        root = await slack.write(ROOM, "root", group=True)
        reply = await slack.write(ROOM, "reply", group=True, thread=root)
        await inbox.wait_for_accepted("reply")
    again, later = SlackChannel(channel.settings), SuiteInbox()
    async with run_channel(again, later):
        await slack.react(reply, "👍", chat=ROOM, person=BOB)
        await slack.react(root, "👀", chat=ROOM, person=BOB)
        await slack.react(reply, "👍", chat=ROOM)
        await later.wait_until(lambda: len(later.accepted) == 3)
    assert {event.thread_id for event in later.accepted} == {root}
    assert [event.refers_to for event in later.accepted] == [reply, root, reply]
    assert len({event_identity(event) for event in later.accepted}) == 3


@pytest.mark.content(ContentKind.BUTTON_PRESS, ContentKind.THREAD)
async def test_a_press_in_a_thread_belongs_to_the_thread(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    card = OutboundCard(text="Shall we?", plain="Shall we?", buttons=(Button(label="R&D <b>", value="q:1"),))
    async with run_channel(channel, inbox):
        root = await slack.write(ROOM, "root", group=True)
        await channel.send_card(Address(platform_id=ROOM, thread_id=root), card, idempotency_key="k")
        [shown] = await slack.wait_for_messages(1, ROOM)
        await slack.press(shown, "R&D <b>", person=BOB)
        await inbox.wait_until(lambda: inbox.accepted[-1:] != [] and inbox.accepted[-1].kind is EventKind.CLICK)
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    click = inbox.accepted[-1]
    assert (click.thread_id, click.refers_to, click.value) == (root, shown.id, "q:1")
    assert (click.text, click.sender.name, click.is_group) == ("R&D <b>", "Bob", True)


async def test_the_bots_own_posts_are_not_received(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    card = OutboundCard(text="mine", plain="mine", buttons=())
    async with run_channel(channel, inbox):
        receipt = await channel.send_card(Address(platform_id=ROOM), card, idempotency_key="k")
        await channel.edit(Address(platform_id=ROOM), receipt.platform_message_ids[0], card)
        bare = {"type": "message", "subtype": "bot_message", "bot_id": "B0NANOHOST", "channel": ROOM, "text": "also"}
        await slack.tell_event(bare | {"ts": slack.next_ts()})
        await slack.write(DM, "the end")
        await inbox.wait_for_accepted("the end")
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert len(inbox.accepted) == 1


@pytest.mark.behaviour("IN-01")
async def test_irrelevant_events_are_acknowledged(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox) as ended:
        for type_ in ("channel_left", "team_join", "an_event_of_the_future"):
            await slack.tell_event({"type": type_, "channel": ROOM})
        await slack.tell_event({"type": "message", "subtype": "message_deleted", "channel": ROOM, "ts": "1.0"})
        await slack.tell({"command": "/hello"}, type_="slash_commands")
        await slack.tell({"type": "view_submission", "view": {}}, type_="interactive")
        await slack.wait_until(lambda: slack.connections > 0 and slack.unacknowledged == 0)
        await slack.send_garbage()
        await slack.wait_until(lambda: slack.garbage_acknowledged == slack.garbage_sent)
    assert (inbox.accepted, ended) == ([], [])


@pytest.mark.behaviour("IN-01", "IN-07")
async def test_no_message_overtakes_one_that_could_not_be_committed(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    inbox.fail_once()
    texts = [f"line {number}" for number in range(5)]
    async with run_channel(channel, inbox) as ended:
        for text in texts:
            await slack.write(DM, text)
        await inbox.wait_until(lambda: inbox.failed_commits == 1)
        inbox.release()
        await inbox.wait_for_accepted(texts[-1])
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert [type(end) for end in ended] == [OSError]
    assert list(dict.fromkeys(event.text for event in inbox.accepted)) == texts


@pytest.mark.behaviour("IN-01", "IN-02")
async def test_a_redelivery_during_the_commit_is_the_same_event(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    inbox.hold()
    async with run_channel(channel, inbox) as ended:
        await slack.write(DM, "slowly")
        await inbox.wait_until(lambda: len(inbox.received) == 1)
        await slack.redeliver()
        assert slack.unacknowledged == 1
        inbox.release()
        await inbox.wait_until(lambda: len(inbox.accepted) == 2)
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert inbox.accepted[0] == inbox.accepted[1]
    assert ended == []


class _BlockedChatInbox(SuiteInbox):
    """The commits of one chat never end."""

    async def accept(self, event: InboundEvent) -> Accepted:
        if event.platform_id == ROOM:
            await asyncio.Event().wait()
        return await super().accept(event)


@pytest.mark.behaviour("IN-07")
async def test_chats_do_not_wait_for_each_other(slack: SlackSimulator, channel: SlackChannel) -> None:
    inbox = _BlockedChatInbox()
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "stuck", group=True)
        await slack.write(OTHER_ROOM, "on", group=True)
        await inbox.wait_for_accepted("on")
        await slack.wait_until(lambda: slack.unacknowledged == 1)


async def test_a_sender_without_a_known_name_is_shown_by_id_without_delay(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        event = {"type": "message", "channel": ROOM, "user": "U404", "text": "who am I?", "ts": slack.next_ts()}
        await slack.tell_event(event)
        accepted = await inbox.wait_for_accepted("who am I?")
    assert (accepted.sender.handle, accepted.sender.name) == ("U404", "U404")


# Coming back


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_failed_attempt_to_connect_is_repeated(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, fault: Fault
) -> None:
    slack.opening.queue.append(fault)
    ts = await slack.write(DM, "are you there?")
    async with run_channel(channel, inbox) as ended:
        await slack.wait_until(lambda: "apps.connections.open" in slack.calls)
        await inbox.wait_for_accepted("are you there?")
        await slack.wait_until(lambda: ts in slack.acknowledged())
        assert channel.condition() == (Condition.UP, "")
    assert ended == []


async def test_a_rate_limit_on_connecting_is_waited_for(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    slack.opening.limits[""] = (1, 1.0)
    await slack.write(DM, "patience")
    began = asyncio.get_running_loop().time()
    async with run_channel(channel, inbox):
        await inbox.wait_for_accepted("patience")
    assert asyncio.get_running_loop().time() - began >= 1.0
    assert slack.calls.count("apps.connections.open") == 2


async def test_a_refused_token_is_reported_and_tried_again(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    slack.opening.queue.extend([Fault.UNAUTHORIZED] * 3)
    async with run_channel(channel, inbox):
        await slack.wait_until(lambda: slack.calls.count("apps.connections.open") == 2)
        condition, sentence = channel.condition()
        await slack.write(DM, "better now?")
        await inbox.wait_for_accepted("better now?")
    assert condition is Condition.AUTH_FAILED
    assert "app_token" in sentence
    assert "xapp" not in sentence


@pytest.mark.parametrize("end", ["closed", "cut", "mute", "polite"])
async def test_a_lost_connection_is_made_again_without_losing_messages(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, end: str
) -> None:
    async with run_channel(channel, inbox) as ended:
        await slack.write(DM, "before")
        await inbox.wait_for_accepted("before")
        match end:
            case "closed":
                await slack.close_socket()
            case "cut":
                slack.cut_sockets()
            case "mute":
                slack.is_mute = True
            case "polite":
                await slack.ask_to_reconnect()
        during = await slack.write(DM, "during")
        await slack.wait_until(lambda: slack.connections == 2)
        slack.is_mute = False
        after = await slack.write(DM, "after")
        await inbox.wait_for_accepted("after")
        await slack.wait_until(lambda: {during, after} <= set(slack.acknowledged()))
    assert ended == []
    assert list(dict.fromkeys(event.text for event in inbox.accepted)) == ["before", "during", "after"]


@pytest.mark.behaviour("IN-01", "IN-02", "IN-07")
async def test_events_that_slack_gave_up_delivering_are_read_from_the_history(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    slack.most_a_page = 2
    async with run_channel(channel, inbox):
        root = await slack.write(ROOM, "root", group=True)
        await slack.write(DM, "before")
        await inbox.wait_until(lambda: len(inbox.accepted) == 2)
        await channel.send(Address(platform_id=ROOM, thread_id=root), OutboundText(text="ours"), idempotency_key="k")
    expected = []
    for number in range(4):
        await slack.write(DM, f"dm {number}")
        await slack.write(ROOM, f"reply {number}", group=True, thread=root)
        new_root = await slack.write(ROOM, f"root {number}", group=True, person=BOB)
        await slack.write(ROOM, f"reply to {number}", group=True, thread=new_root, file=("a.txt", b"a"))
        expected += [f"reply {number}", f"root {number}", f"reply to {number}"]
    slack.give_up()
    again = SlackChannel(channel.settings)
    async with run_channel(again, inbox) as ended:
        await slack.write(DM, "the end")
        await inbox.wait_until(lambda: len({event_identity(event) for event in inbox.accepted}) == 19)
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert ended == []
    in_room = [event for event in inbox.accepted[2:] if event.platform_id == ROOM]
    assert [event.text for event in in_room] == expected
    assert [event.thread_id == root for event in in_room] == [True, False, False] * 4
    assert [len(event.attachments) for event in in_room] == [0, 0, 1] * 4
    in_dm = [event.text for event in inbox.accepted[2:] if event.platform_id == DM]
    assert in_dm[:5] == ["dm 0", "dm 1", "dm 2", "dm 3", "the end"]
    assert len({event_identity(event) for event in inbox.accepted}) == 19


@pytest.mark.behaviour("IN-01", "IN-02")
async def test_messages_in_unknown_chats_from_while_the_host_was_down_are_read_once(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    await slack.write(OTHER_ROOM, "long before", group=True, message_id=f"{time.time() - 600:.6f}")
    slack.give_up()
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "known", group=True, message_id=f"{time.time() - 500:.6f}")
        await inbox.wait_for_accepted("known")
    slack.most_a_page = 1
    await slack.write(DM, "hello, are you there?")
    await slack.write(OTHER_ROOM, "and here?", group=True, mention=True)
    slack.archived.add("C0ARCHIVED")
    await slack.write("C0ARCHIVED", "nobody reads this", group=True)
    slack.give_up()
    for _ in range(2):
        async with run_channel(SlackChannel(channel.settings), inbox) as ended:
            await inbox.wait_for_accepted("and here?")
            await slack.write(ROOM, "the end", group=True)
            await inbox.wait_for_accepted("the end")
        assert ended == []
    texts = [event.text for event in inbox.accepted if event.platform_id != ROOM]
    assert texts == ["hello, are you there?", "and here?"]


async def test_a_limited_number_of_unknown_chats_is_read_and_the_rest_logged(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.slack.MAX_UNSEEN_CHATS", 2)
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "known", group=True, message_id=f"{time.time() - 500:.6f}")
        await inbox.wait_for_accepted("known")
    for chat in (OTHER_ROOM, "C502", DM):
        await slack.write(chat, f"missed in {chat}", group=chat != DM)
    slack.give_up()
    with capture_logs() as logs:
        async with run_channel(SlackChannel(channel.settings), inbox):
            await inbox.wait_until(lambda: len(inbox.accepted) == 3)
            await slack.write(ROOM, "the end", group=True)
            await inbox.wait_for_accepted("the end")
    missed = [event.text for event in inbox.accepted if event.text.startswith("missed")]
    assert missed == [f"missed in {DM}", f"missed in {OTHER_ROOM}"]
    said = [log["error"] for log in logs if log["event"] == "slack_catch_up_failed"]
    assert said == ["1 chats never heard of are not read"]


async def test_a_limited_number_of_threads_is_searched_for_deletions(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.slack.MAX_THREADS", 2)
    replies = list[str]()
    async with run_channel(channel, inbox):
        for number in range(3):
            root = await slack.write(ROOM, "root", group=True, message_id=f"{time.time() - 600 + number:.6f}")
            ts = f"{time.time() - 500 + number:.6f}"
            replies.append(await slack.write(ROOM, "reply", group=True, thread=root, message_id=ts))
        await inbox.wait_until(lambda: len(inbox.accepted) == 6)
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    for reply in replies:
        await slack.delete(reply, chat=ROOM)
    slack.give_up()
    async with run_channel(SlackChannel(channel.settings), inbox):
        await slack.write(DM, "the end")
        await inbox.wait_for_accepted("the end")
        await slack.wait_until(lambda: slack.unacknowledged == 0)  # what is new is taken after the reading up
    gone = [event.refers_to for event in inbox.accepted if event.kind is EventKind.DELETION]
    assert gone == replies[:2]


async def test_at_the_first_start_no_earlier_messages_are_read(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    await slack.write(DM, "before the host was there")
    slack.give_up()
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "now", group=True)
        await inbox.wait_for_accepted("now")
    assert [event.text for event in inbox.accepted] == ["now"]


@pytest.mark.behaviour("IN-02")
async def test_a_flood_in_one_chat_hides_no_messages_of_another(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        for chat in (DM, ROOM, OTHER_ROOM):
            await slack.write(chat, f"before {chat}", group=chat != DM)
            await inbox.wait_for_accepted(f"before {chat}")
    slack.most_a_page = 1
    for number in range(MAX_PAGES + 2):
        await slack.write(ROOM, f"flood {number}", group=True, person=BOB)
    for chat in (DM, OTHER_ROOM):
        await slack.write(chat, f"missed {chat}", group=chat != DM)
    slack.give_up()
    async with run_channel(SlackChannel(channel.settings), inbox):
        for chat in (DM, OTHER_ROOM):
            await inbox.wait_for_accepted(f"missed {chat}")
    flood = [event.text for event in inbox.accepted if event.text.startswith("flood")]
    assert flood[-1] == f"flood {MAX_PAGES + 1}"


async def test_deletions_while_the_host_was_down_are_reported_when_it_catches_up(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    ids = dict[str, str]()
    async with run_channel(channel, inbox):
        for text in ("root", "empty root", "kept root"):
            ids[text] = await slack.write(ROOM, text, group=True, message_id=f"{time.time() - 600 + len(ids):.6f}")
        for text in ("reply", "kept reply"):
            ts = f"{time.time() - 500 + len(ids):.6f}"
            ids[text] = await slack.write(ROOM, text, group=True, thread=ids["root"], message_id=ts)
        ids["dm"] = await slack.write(DM, "dm", message_id=f"{time.time() - 400:.6f}")
        await inbox.wait_until(lambda: len(inbox.accepted) == 6)
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    gone = ["root", "empty root", "reply", "dm"]
    for text in ("dm", "reply", "root", "empty root"):
        await slack.delete(ids[text], chat=DM if text == "dm" else ROOM)
    missed = await slack.write(ROOM, "written and deleted meanwhile", group=True)
    await slack.delete(missed, chat=ROOM)
    slack.give_up()
    for _ in range(2):
        async with run_channel(SlackChannel(channel.settings), inbox) as ended:
            await slack.write(DM, "the end")
            await inbox.wait_for_accepted("the end")
            await slack.wait_until(lambda: slack.unacknowledged == 0)  # what is new is taken after the reading up
        assert ended == []
    told = [event for event in inbox.accepted if event.kind is EventKind.DELETION]
    assert sorted(event.refers_to or "" for event in told) == sorted(ids[text] for text in gone), "each once"
    assert {event.refers_to: (event.platform_id, event.thread_id) for event in told} == {
        ids["root"]: (ROOM, ids["root"]),
        ids["empty root"]: (ROOM, ids["empty root"]),
        ids["reply"]: (ROOM, ids["root"]),
        ids["dm"]: (DM, None),
    }
    assert "written and deleted meanwhile" not in {event.text for event in inbox.accepted}


async def test_in_a_chat_that_cannot_be_read_in_full_nothing_counts_as_deleted(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "first", group=True, message_id=f"{time.time() - 600:.6f}")
        await inbox.wait_for_accepted("first")
    slack.most_a_page = 1
    for number in range(MAX_PAGES + 2):
        await slack.write(ROOM, f"flood {number}", group=True)
    slack.give_up()
    async with run_channel(SlackChannel(channel.settings), inbox):
        await inbox.wait_for_accepted(f"flood {MAX_PAGES + 1}")
    assert {event.kind for event in inbox.accepted} == {EventKind.MESSAGE}


@pytest.mark.parametrize("thread", [None, "a thread"])
async def test_a_late_message_that_no_longer_exists_is_skipped(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, thread: str | None
) -> None:
    root = await slack.write(ROOM, "root", group=True) if thread else None
    slack.give_up()
    late = [f"{time.time() - LATE_DELIVERY_S - 30 + number:.6f}" for number in range(2)]
    for ts, text in zip(late, ("deleted", "kept"), strict=True):
        await slack.write(ROOM, text, group=True, thread=root, message_id=ts)
    await slack.delete(late[0], chat=ROOM)
    async with run_channel(channel, inbox):
        await inbox.wait_for_accepted("kept")
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert [event.text for event in inbox.accepted if event.kind is EventKind.MESSAGE] == ["kept"]


@pytest.mark.behaviour("IN-01")
async def test_a_late_message_is_looked_up_each_time_slack_reports_it(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    late = f"{time.time() - LATE_DELIVERY_S - 30:.6f}"
    await slack.write(ROOM, "late", group=True, message_id=late)
    inbox.fail_once()
    async with run_channel(channel, inbox):
        await inbox.wait_until(lambda: inbox.failed_commits == 1)
    await slack.delete(late, chat=ROOM)
    inbox.release()
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "the end", group=True)
        await inbox.wait_for_accepted("the end")
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert [event.text for event in inbox.accepted if event.kind is EventKind.MESSAGE] == ["the end"]


async def test_a_late_message_of_an_unreadable_chat_is_accepted(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    slack.archived.add(ROOM)
    await slack.write(ROOM, "late", group=True, message_id=f"{time.time() - LATE_DELIVERY_S - 30:.6f}")
    async with run_channel(channel, inbox):
        await inbox.wait_for_accepted("late")


async def test_a_channel_that_cannot_read_the_history_still_receives(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        await slack.write(ROOM, "before", group=True)
        await slack.write(DM, "before that")
        await inbox.wait_until(lambda: len(inbox.accepted) == 2)
    slack.archived.add(ROOM)
    async with run_channel(SlackChannel(channel.settings), inbox):
        await slack.write(DM, "on we go")
        await inbox.wait_for_accepted("on we go")


@pytest.mark.content(ContentKind.APP)
async def test_people_are_told_apart_from_the_bot_itself_and_other_bots(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        event = {"type": "message", "channel": ROOM, "user": ADA.id, "bot_id": "B1", "text": "x", "ts": slack.next_ts()}
        await slack.tell_event(event)
        await inbox.wait_until(lambda: len(inbox.accepted) == 1)
    assert inbox.accepted[0].sender.is_bot
    assert ME not in {event.sender.handle for event in inbox.accepted}
