"""What each kind of WhatsApp's messages holds, in words. Pure; the next thing up is content.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nanohost.wa_bridge import names, values
from nanohost.wa_bridge.protocol import Part
from nanohost.wa_bridge.values import Json

MEDIA = ("documentMessage", "imageMessage", "videoMessage", "audioMessage", "stickerMessage", "ptvMessage")
"""Kinds that come with a file."""
POLLS = tuple(f"pollCreationMessage{version}" for version in ("", "V2", "V3", "V5", "V6"))
MOST_ROWS = 50
"""Of a list, poll or form that are told."""
MOST_CARDS = 30
"""Contacts that are a part each; WhatsApp lets people send 257, and the rest is one part, a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is known besides the message itself. `me`: our own ids, `people`: names by id. `earlier`: an earlier message
    of this chat without its wrappers, None if it is not known. `chosen`: the hashes (in hex) that a vote names, None if
    it could not be read; `has_unknown`: the message has fields that the library does not know."""

    me: Collection[str] = ()
    people: Mapping[str, str] = field(default_factory=dict)
    earlier: Callable[[str], Json | None] = lambda _: None
    chosen: Collection[str] | None = None
    talks_to_self: bool = False
    has_unknown: bool = False

    def called(self, jid: str) -> str:
        """What people call them: a name, a number, or nothing."""
        bare = names.bare(jid)
        if bare in self.me:
            return "" if self.talks_to_self else "you"
        if name := self.people.get(bare):
            return name
        user, _, server = bare.partition("@")
        return f"+{user}" if server == names.PHONE_SERVER else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one kind holds."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    refers_to: str | None = None


THINGS = {
    "imageMessage": "a picture",
    "videoMessage": "a video",
    "ptvMessage": "a round video",
    "audioMessage": "a voice message or sound",
    "documentMessage": "a document",
    "stickerMessage": "a sticker",
}


def shared(title: str, text: str, *, url: str = "") -> Part:
    return Part(kind="shared", title=title, text=text, url=url)


def told(rows: Sequence[str]) -> list[str]:
    """The first rows, and how many more there are."""
    more = len(rows) - MOST_ROWS
    return [*rows[:MOST_ROWS], *([f"[cut: {more} more]"] if more > 0 else [])]


def _only(title: str, *words: object, url: object = "", said: object = "") -> Content:
    """One thing, and what its sender said with it."""
    return Content(text=values.text(said), parts=(shared(title, values.lines(*words), url=values.text(url)),))


def _linked_text(value: object, _: Around) -> Content:
    message = values.mapping(value)
    preview = values.lines(message.get("title"), message.get("description"))
    url = values.text(message.get("matchedText"))
    parts = (shared("preview of a link", preview, url=url),) if preview else ()
    return Content(text=values.text(message.get("text")), parts=parts)


def _place(value: object, _: Around) -> Content:
    place = values.mapping(value)
    told = (values.text(place.get("name")), values.text(place.get("address")), _where(place))
    words = ", ".join(one for one in told if one)
    title = "live place" if place.get("isLive") is True else "place"
    return _only(
        title, words or "[a place which cannot be shown here]", url=place.get("URL"), said=place.get("comment")
    )


def _where(place: Json) -> str:
    """Its degrees; empty where they are not told."""
    degrees = [place.get("degreesLatitude"), place.get("degreesLongitude")]
    return ", ".join(map(values.decimal, degrees)) if any(one is not None for one in degrees) else ""


def _live_place(value: object, _: Around) -> Content:
    place = values.mapping(value)
    where = _where(place) or "a place that is not told,"
    return _only("live place", f"{where} when it began; how it moves is not told", said=place.get("caption"))


def _contact(value: object, _: Around) -> Content:
    return _only("contact", contact_in_words(values.mapping(value)))


def _contacts(value: object, around: Around) -> Content:
    cards = [contact_in_words(values.mapping(one)) for one in values.items(values.mapping(value).get("contacts"))]
    alone, together = cards[:MOST_CARDS], cards[MOST_CARDS:]
    some = [shared("contact", card) for card in alone]
    return Content(parts=(*some, *([shared("contacts", "\n".join(together))] if together else [])))


def contact_in_words(contact: Json) -> str:
    """The name, and the numbers, addresses and firm of a vCard."""
    found = [values.text(contact.get("displayName"))]
    card = re.sub(r"\r?\n[ \t]", "", values.text(contact.get("vcard")))
    for line in card.splitlines():
        key, _, value = line.partition(":")
        key = key.partition(";")[0].rpartition(".")[2].upper()
        if key in ("FN", "TEL", "EMAIL", "ORG", "URL", "ADR") and value.strip("; "):
            found.append(re.sub(r"\s*;+\s*", ", ", value.strip("; ").replace("\\,", ",")))
    return ", ".join(dict.fromkeys(one for one in found if one)) or "without a name"


def _poll(value: object, _: Around) -> Content:
    poll = values.mapping(value)
    options = told([values.text(values.mapping(one).get("optionName")) for one in values.items(poll.get("options"))])
    return _only("poll", f"{values.text(poll.get('name'))} {' / '.join(options)}".strip())


def options_of(content: Json) -> tuple[str, dict[str, str]]:
    """The question of a poll, and its options by the hashes that votes name; empty for what is no poll."""
    poll = next((values.mapping(content[one]) for one in POLLS if one in content), {})
    options = [values.text(values.mapping(one).get("optionName")) for one in values.items(poll.get("options"))]
    return values.text(poll.get("name")), {hashlib.sha256(one.encode()).hexdigest(): one for one in options}


def _vote(value: object, around: Around) -> Content:
    id = values.id_in(values.mapping(value).get("pollCreationMessageKey"))
    question, options = options_of(around.earlier(id or "") or {})
    poll = f"in the poll {question!r}" if question else "in a poll"
    if around.chosen is None:
        words = f"{poll}; what was chosen cannot be read"
    elif not around.chosen:
        words = f"{poll}: taken back"
    else:
        words = f"{poll}: {' / '.join(options.get(one, 'an option that is not known') for one in around.chosen)}"
    return replace(_only("vote", words), refers_to=id)


def _poll_result(value: object, _: Around) -> Content:
    result = values.mapping(value)
    votes = [values.mapping(one) for one in values.items(result.get("pollVotes"))]
    counted = " / ".join(
        told([f"{values.text(one.get('optionName'))}: {values.number(one.get('optionVoteCount'))}" for one in votes])
    )
    return _only("result of a poll", f"{values.text(result.get('name'))} {counted}".strip())


def _event(value: object, around: Around) -> Content:
    event = values.mapping(value)
    title = "cancelled event" if event.get("isCanceled") is True else "event"
    where = [one.text for one in _place(event.get("location"), around).parts] if event.get("location") else []
    name = event.get("name") or event.get("eventTitle")
    words = (name, _span(event), *where, event.get("description"))
    url = event.get("joinLink") or event.get("callLink")
    return _only(title, *words, url=url, said=event.get("caption"))


def _span(event: Json) -> str:
    times = [values.moment(values.number(event.get(one))) for one in ("startTime", "endTime")]
    return " to ".join(one for one in times if one)


def _event_answer(value: object, _: Around) -> Content:
    id = values.id_in(values.mapping(value).get("eventCreationMessageKey"))
    return replace(_only("answer to an event", "WhatsApp does not let it be read"), refers_to=id)


def _buttons(value: object, _: Around) -> Content:
    message = values.mapping(value)
    labels = [
        values.mapping(values.mapping(one).get("buttonText")).get("displayText")
        for one in values.items(message.get("buttons"))
    ]
    text = values.lines(message.get("text"), message.get("contentText"), message.get("footerText"))
    return Content(text=text, parts=_choices(labels))


def _list_message(value: object, _: Around) -> Content:
    message = values.mapping(value)
    rows = [
        values.mapping(row)
        for one in values.items(message.get("sections"))
        for row in values.items(values.mapping(one).get("rows"))
    ]
    labels = [
        " - ".join(filter(None, (values.text(row.get("title")), values.text(row.get("description"))))) for row in rows
    ]
    text = values.lines(message.get("title"), message.get("description"), message.get("footerText"))
    return Content(text=text, parts=_choices(labels))


def _template(value: object, around: Around) -> Content:
    template = values.mapping(value)
    if "interactiveMessageTemplate" in template:
        return _interactive(template["interactiveMessageTemplate"], around)
    rows = values.mapping(template.get("hydratedTemplate")) or values.mapping(template.get("hydratedFourRowTemplate"))
    buttons = [values.mapping(one) for one in values.items(rows.get("hydratedButtons"))]
    quick = [values.mapping(one.get("quickReplyButton")).get("displayText") for one in buttons]
    links = [values.mapping(one.get("urlButton")) for one in buttons if "urlButton" in one]
    text = values.lines(rows.get("hydratedTitleText"), rows.get("hydratedContentText"), rows.get("hydratedFooterText"))
    linked = [
        Part(kind="link", text=values.text(one.get("displayText")), url=values.text(one.get("URL"))) for one in links
    ]
    return Content(text=text, parts=(*_choices(quick), *linked[:MOST_ROWS]))


def _structured(value: object, around: Around) -> Content:
    return _template(values.mapping(value).get("hydratedHsm"), around)


def _interactive(value: object, around: Around) -> Content:
    message = values.mapping(value)
    flow = values.items(values.mapping(message.get("nativeFlowMessage")).get("buttons"))
    labels = [values.form(values.text(values.mapping(one).get("buttonParamsJSON"))).get("display_text") for one in flow]
    cards = values.items(values.mapping(message.get("carouselMessage")).get("cards"))[:MOST_ROWS]
    texts = [_interactive(one, around).text for one in cards] if cards else []
    header, body, footer = (values.mapping(message.get(one)) for one in ("header", "body", "footer"))
    text = values.lines(header.get("title"), header.get("subtitle"), body.get("text"), *texts, footer.get("text"))
    return Content(text=text, parts=_choices(labels))


def _choices(labels: Collection[object]) -> tuple[Part, ...]:
    said = told([values.text(one) for one in labels if values.text(one)])
    return (shared("buttons", " / ".join(said)),) if said else ()


def _chosen(value: object, _: Around) -> Content:
    """The answer to buttons or to a list: its label is what the person said."""
    choice = values.mapping(value)
    row = values.mapping(choice.get("singleSelectReply"))
    label = choice.get("selectedDisplayText") or choice.get("title") or choice.get("selectedButtonID")
    return Content(text=values.text(label or choice.get("selectedID") or row.get("selectedRowID")))


def _flow_answer(value: object, _: Around) -> Content:
    answer = values.mapping(value)
    flow = values.mapping(answer.get("nativeFlowResponseMessage"))
    form = form_in_words(values.text(flow.get("paramsJSON"))) or values.text(flow.get("name"))
    return _only("answer to a form", form, said=values.mapping(answer.get("body")).get("text"))


def form_in_words(document: str) -> str:
    """The fields of a form, a line each; what is the program's own (tokens) is left out."""
    fields = [
        (key, value)
        for key, value in values.form(document).items()
        if key not in ("flow_token", "wa_flow_response_params")
    ]
    return "\n".join(told([f"{key}: {values.plain(value)}" for key, value in fields]))


def _group_invite(value: object, _: Around) -> Content:
    invite = values.mapping(value)
    name = invite.get("groupName") or invite.get("newsletterName") or "without a name"
    return _only("invitation to a group", name, said=invite.get("caption"))


def _channel_invite(value: object, _: Around) -> Content:
    invite = values.mapping(value)
    return _only(
        "invitation to a channel", invite.get("newsletterName") or "without a name", said=invite.get("caption")
    )


def _product(value: object, _: Around) -> Content:
    message = values.mapping(value)
    product = values.mapping(message.get("product"))
    price = values.price(product.get("priceAmount1000"), product.get("currencyCode"))
    words = (product.get("title"), price, product.get("description"), message.get("body"), message.get("footer"))
    return _only("product", *words, url=product.get("URL"))


def _order(value: object, _: Around) -> Content:
    order = values.mapping(value)
    count = values.number(order.get("itemCount"))
    items = f"{count} {'item' if count == 1 else 'items'}" if count else ""
    words = (order.get("orderTitle"), items, values.price(order.get("totalAmount1000"), order.get("totalCurrencyCode")))
    return _only("order", *words, said=order.get("message"))


def _invoice(value: object, _: Around) -> Content:
    return _only("invoice", values.mapping(value).get("note") or "without a note")


def _note(message: Json) -> object:
    return message.get("conversation") or values.mapping(message.get("extendedTextMessage")).get("text")


def _payment(value: object, _: Around) -> Content:
    payment = values.mapping(value)
    note = _note(values.mapping(payment.get("noteMessage")))
    price = values.price(payment.get("amount1000"), payment.get("currencyCodeIso4217"))
    return _only("payment", price or "how much is not told", said=note)


def _sticker_pack(value: object, _: Around) -> Content:
    pack = values.mapping(value)
    return _only("pack of stickers", pack.get("name"), pack.get("publisher"), said=pack.get("caption"))


def _planned_call(value: object, _: Around) -> Content:
    call = values.mapping(value)
    return _only(
        "planned call", call.get("title"), values.moment(values.number(call.get("scheduledTimestampMS")) // 1000)
    )


def _sentence(words: str) -> Callable[[object, Around], Content]:
    return lambda value, around: Content(parts=(shared("", words),))


READERS: Mapping[str, Callable[[object, Around], Content]] = {
    "conversation": lambda value, around: Content(text=values.text(value)),
    "extendedTextMessage": _linked_text,
    "locationMessage": _place,
    "liveLocationMessage": _live_place,
    "contactMessage": _contact,
    "contactsArrayMessage": _contacts,
    **dict.fromkeys(POLLS, _poll),
    "pollUpdateMessage": _vote,
    "pollResultSnapshotMessage": _poll_result,
    "pollResultSnapshotMessageV3": _poll_result,
    "eventMessage": _event,
    "eventInviteMessage": _event,
    "encEventResponseMessage": _event_answer,
    "encCommentMessage": _sentence("a comment that WhatsApp does not let be read"),
    "buttonsMessage": _buttons,
    "listMessage": _list_message,
    "templateMessage": _template,
    "highlyStructuredMessage": _structured,
    "interactiveMessage": _interactive,
    "buttonsResponseMessage": _chosen,
    "templateButtonReplyMessage": _chosen,
    "listResponseMessage": _chosen,
    "interactiveResponseMessage": _flow_answer,
    "questionResponseMessage": lambda value, around: Content(
        text=values.text(values.mapping(value).get("text")), refers_to=values.id_in(values.mapping(value).get("key"))
    ),
    "groupInviteMessage": _group_invite,
    "newsletterAdminInviteMessage": _channel_invite,
    "newsletterFollowerInviteMessageV2": _channel_invite,
    "productMessage": _product,
    "orderMessage": _order,
    "invoiceMessage": _invoice,
    "sendPaymentMessage": _payment,
    "requestPaymentMessage": _payment,
    "declinePaymentRequestMessage": _sentence("a request for a payment was declined"),
    "cancelPaymentRequestMessage": _sentence("a request for a payment was taken back"),
    "paymentInviteMessage": _sentence("an invitation to payments in WhatsApp"),
    "stickerPackMessage": _sticker_pack,
    "scheduledCallCreationMessage": _planned_call,
    "requestPhoneNumberMessage": _sentence("a request for your phone number"),
    "placeholderMessage": _sentence("a message that WhatsApp shows on the phone only"),
}
