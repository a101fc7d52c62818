"""Parsers of the kinds of WhatsApp messages, one for each field of a content. Pure; content.py calls them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nanohost_whatsapp_bridge import jids, values
from nanohost_whatsapp_bridge.protocol import Part
from nanohost_whatsapp_bridge.values import Json

MEDIA = ("documentMessage", "imageMessage", "videoMessage", "audioMessage", "stickerMessage", "ptvMessage")
"""Kinds that come with a file."""
POLLS = tuple(f"pollCreationMessage{version}" for version in ("", "V2", "V3", "V5", "V6"))
MAX_ROWS = 50
"""Rows of a list, poll or form that are shown."""
MAX_CONTACT_PARTS = 30
"""Contacts that become a part each; WhatsApp lets people send 257, and the rest is one part with a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageContext:
    """What is known besides the message itself. `me`: our own ids, `people`: names by id. `earlier`: an earlier message
    of this chat without its wrappers, None if it is not known. `selected_options`: the hashes (in hex) that a vote
    names, None if it could not be decrypted; `has_unknown`: the message has fields that the library does not know."""

    me: Collection[str] = ()
    people: Mapping[str, str] = field(default_factory=dict)
    earlier: Callable[[str], Json | None] = lambda _: None
    selected_options: Collection[str] | None = None
    is_self_chat: bool = False
    has_unknown: bool = False

    def display_name(self, jid: str) -> str:
        """A name, a number, or an empty text."""
        bare = jids.without_device(jid)
        if bare in self.me:
            return "" if self.is_self_chat else "you"
        if name := self.people.get(bare):
            return name
        user, _, server = bare.partition("@")
        return f"+{user}" if server == jids.PHONE_SERVER else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldContent:
    """What one field of a content holds."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    refers_to: str | None = None


MEDIA_NAMES = {
    "imageMessage": "a picture",
    "videoMessage": "a video",
    "ptvMessage": "a round video",
    "audioMessage": "a voice message or sound",
    "documentMessage": "a document",
    "stickerMessage": "a sticker",
}


def shared_part(title: str, text: str, *, url: str = "") -> Part:
    return Part(kind="shared", title=title, text=text, url=url)


def truncate_rows(rows: Sequence[str]) -> list[str]:
    """The first rows, and a row that says how many more there are."""
    more = len(rows) - MAX_ROWS
    return [*rows[:MAX_ROWS], *([f"[cut: {more} more]"] if more > 0 else [])]


def _single_part(title: str, *words: object, url: object = "", caption: object = "") -> FieldContent:
    """One shared thing, and the sender's text with it."""
    return FieldContent(
        text=values.as_text(caption), parts=(shared_part(title, values.join_lines(*words), url=values.as_text(url)),)
    )


def _linked_text(value: object, _: MessageContext) -> FieldContent:
    message = values.as_mapping(value)
    preview = values.join_lines(message.get("title"), message.get("description"))
    url = values.as_text(message.get("matchedText"))
    parts = (shared_part("preview of a link", preview, url=url),) if preview else ()
    return FieldContent(text=values.as_text(message.get("text")), parts=parts)


def _place(value: object, _: MessageContext) -> FieldContent:
    place = values.as_mapping(value)
    known = (values.as_text(place.get("name")), values.as_text(place.get("address")), _coordinates(place))
    words = ", ".join(one for one in known if one)
    title = "live place" if place.get("isLive") is True else "place"
    return _single_part(
        title, words or "[a place which cannot be shown here]", url=place.get("URL"), caption=place.get("comment")
    )


def _coordinates(place: Json) -> str:
    """Latitude and longitude; empty where neither is given."""
    degrees = [place.get("degreesLatitude"), place.get("degreesLongitude")]
    return ", ".join(map(values.format_degrees, degrees)) if any(one is not None for one in degrees) else ""


def _live_place(value: object, _: MessageContext) -> FieldContent:
    place = values.as_mapping(value)
    where = _coordinates(place) or "a place that is not told,"
    return _single_part("live place", f"{where} when it began; how it moves is not told", caption=place.get("caption"))


def _contact(value: object, _: MessageContext) -> FieldContent:
    return _single_part("contact", describe_contact(values.as_mapping(value)))


def _contacts(value: object, context: MessageContext) -> FieldContent:
    cards = [
        describe_contact(values.as_mapping(one)) for one in values.as_list(values.as_mapping(value).get("contacts"))
    ]
    alone, together = cards[:MAX_CONTACT_PARTS], cards[MAX_CONTACT_PARTS:]
    some = [shared_part("contact", card) for card in alone]
    return FieldContent(parts=(*some, *([shared_part("contacts", "\n".join(together))] if together else [])))


def describe_contact(contact: Json) -> str:
    """The name, and the numbers, addresses and firm of a vCard."""
    found = [values.as_text(contact.get("displayName"))]
    card = re.sub(r"\r?\n[ \t]", "", values.as_text(contact.get("vcard")))
    for line in card.splitlines():
        key, _, value = line.partition(":")
        key = key.partition(";")[0].rpartition(".")[2].upper()
        if key in ("FN", "TEL", "EMAIL", "ORG", "URL", "ADR") and value.strip("; "):
            found.append(re.sub(r"\s*;+\s*", ", ", value.strip("; ").replace("\\,", ",")))
    return ", ".join(dict.fromkeys(one for one in found if one)) or "without a name"


def _poll(value: object, _: MessageContext) -> FieldContent:
    poll = values.as_mapping(value)
    options = truncate_rows(
        [values.as_text(values.as_mapping(one).get("optionName")) for one in values.as_list(poll.get("options"))]
    )
    return _single_part("poll", f"{values.as_text(poll.get('name'))} {' / '.join(options)}".strip())


def options_of(content: Json) -> tuple[str, dict[str, str]]:
    """The question of a poll, and its options by the hashes that votes name; empty for what is no poll."""
    poll = next((values.as_mapping(content[one]) for one in POLLS if one in content), {})
    options = [values.as_text(values.as_mapping(one).get("optionName")) for one in values.as_list(poll.get("options"))]
    return values.as_text(poll.get("name")), {hashlib.sha256(one.encode()).hexdigest(): one for one in options}


def _vote(value: object, context: MessageContext) -> FieldContent:
    id = values.message_id_in(values.as_mapping(value).get("pollCreationMessageKey"))
    question, options = options_of(context.earlier(id or "") or {})
    poll = f"in the poll {question!r}" if question else "in a poll"
    if context.selected_options is None:
        words = f"{poll}; what was chosen cannot be read"
    elif not context.selected_options:
        words = f"{poll}: taken back"
    else:
        words = (
            f"{poll}: {' / '.join(options.get(one, 'an option that is not known') for one in context.selected_options)}"
        )
    return replace(_single_part("vote", words), refers_to=id)


def _poll_result(value: object, _: MessageContext) -> FieldContent:
    result = values.as_mapping(value)
    votes = [values.as_mapping(one) for one in values.as_list(result.get("pollVotes"))]
    counted = " / ".join(
        truncate_rows(
            [f"{values.as_text(one.get('optionName'))}: {values.as_int(one.get('optionVoteCount'))}" for one in votes]
        )
    )
    return _single_part("result of a poll", f"{values.as_text(result.get('name'))} {counted}".strip())


def _event(value: object, context: MessageContext) -> FieldContent:
    event = values.as_mapping(value)
    title = "cancelled event" if event.get("isCanceled") is True else "event"
    where = [one.text for one in _place(event.get("location"), context).parts] if event.get("location") else []
    name = event.get("name") or event.get("eventTitle")
    words = (name, _format_period(event), *where, event.get("description"))
    url = event.get("joinLink") or event.get("callLink")
    return _single_part(title, *words, url=url, caption=event.get("caption"))


def _format_period(event: Json) -> str:
    times = [values.format_time(values.as_int(event.get(one))) for one in ("startTime", "endTime")]
    return " to ".join(one for one in times if one)


def _event_answer(value: object, _: MessageContext) -> FieldContent:
    id = values.message_id_in(values.as_mapping(value).get("eventCreationMessageKey"))
    return replace(_single_part("answer to an event", "WhatsApp does not let it be read"), refers_to=id)


def _buttons(value: object, _: MessageContext) -> FieldContent:
    message = values.as_mapping(value)
    labels = [
        values.as_mapping(values.as_mapping(one).get("buttonText")).get("displayText")
        for one in values.as_list(message.get("buttons"))
    ]
    text = values.join_lines(message.get("text"), message.get("contentText"), message.get("footerText"))
    return FieldContent(text=text, parts=_choices(labels))


def _list_message(value: object, _: MessageContext) -> FieldContent:
    message = values.as_mapping(value)
    rows = [
        values.as_mapping(row)
        for one in values.as_list(message.get("sections"))
        for row in values.as_list(values.as_mapping(one).get("rows"))
    ]
    labels = [
        " - ".join(filter(None, (values.as_text(row.get("title")), values.as_text(row.get("description")))))
        for row in rows
    ]
    text = values.join_lines(message.get("title"), message.get("description"), message.get("footerText"))
    return FieldContent(text=text, parts=_choices(labels))


def _template(value: object, context: MessageContext) -> FieldContent:
    template = values.as_mapping(value)
    if "interactiveMessageTemplate" in template:
        return _interactive(template["interactiveMessageTemplate"], context)
    rows = values.as_mapping(template.get("hydratedTemplate")) or values.as_mapping(
        template.get("hydratedFourRowTemplate")
    )
    buttons = [values.as_mapping(one) for one in values.as_list(rows.get("hydratedButtons"))]
    quick = [values.as_mapping(one.get("quickReplyButton")).get("displayText") for one in buttons]
    links = [values.as_mapping(one.get("urlButton")) for one in buttons if "urlButton" in one]
    text = values.join_lines(
        rows.get("hydratedTitleText"), rows.get("hydratedContentText"), rows.get("hydratedFooterText")
    )
    linked = [
        Part(kind="link", text=values.as_text(one.get("displayText")), url=values.as_text(one.get("URL")))
        for one in links
    ]
    return FieldContent(text=text, parts=(*_choices(quick), *linked[:MAX_ROWS]))


def _structured(value: object, context: MessageContext) -> FieldContent:
    return _template(values.as_mapping(value).get("hydratedHsm"), context)


def _interactive(value: object, context: MessageContext) -> FieldContent:
    message = values.as_mapping(value)
    flow = values.as_list(values.as_mapping(message.get("nativeFlowMessage")).get("buttons"))
    labels = [
        values.parse_object(values.as_text(values.as_mapping(one).get("buttonParamsJSON"))).get("display_text")
        for one in flow
    ]
    cards = values.as_list(values.as_mapping(message.get("carouselMessage")).get("cards"))[:MAX_ROWS]
    texts = [_interactive(one, context).text for one in cards] if cards else []
    header, body, footer = (values.as_mapping(message.get(one)) for one in ("header", "body", "footer"))
    text = values.join_lines(header.get("title"), header.get("subtitle"), body.get("text"), *texts, footer.get("text"))
    return FieldContent(text=text, parts=_choices(labels))


def _choices(labels: Collection[object]) -> tuple[Part, ...]:
    shown = truncate_rows([values.as_text(one) for one in labels if values.as_text(one)])
    return (shared_part("buttons", " / ".join(shown)),) if shown else ()


def _selection(value: object, _: MessageContext) -> FieldContent:
    """The answer to buttons or to a list: its label is the person's text."""
    choice = values.as_mapping(value)
    row = values.as_mapping(choice.get("singleSelectReply"))
    label = choice.get("selectedDisplayText") or choice.get("title") or choice.get("selectedButtonID")
    return FieldContent(text=values.as_text(label or choice.get("selectedID") or row.get("selectedRowID")))


def _flow_answer(value: object, _: MessageContext) -> FieldContent:
    answer = values.as_mapping(value)
    flow = values.as_mapping(answer.get("nativeFlowResponseMessage"))
    form = describe_form(values.as_text(flow.get("paramsJSON"))) or values.as_text(flow.get("name"))
    return _single_part("answer to a form", form, caption=values.as_mapping(answer.get("body")).get("text"))


def describe_form(document: str) -> str:
    """The fields of a form, a line each, without the tokens that are for the program."""
    fields = [
        (key, value)
        for key, value in values.parse_object(document).items()
        if key not in ("flow_token", "wa_flow_response_params")
    ]
    return "\n".join(truncate_rows([f"{key}: {values.as_plain_text(value)}" for key, value in fields]))


def _group_invite(value: object, _: MessageContext) -> FieldContent:
    invite = values.as_mapping(value)
    name = invite.get("groupName") or invite.get("newsletterName") or "without a name"
    return _single_part("invitation to a group", name, caption=invite.get("caption"))


def _channel_invite(value: object, _: MessageContext) -> FieldContent:
    invite = values.as_mapping(value)
    return _single_part(
        "invitation to a channel", invite.get("newsletterName") or "without a name", caption=invite.get("caption")
    )


def _product(value: object, _: MessageContext) -> FieldContent:
    message = values.as_mapping(value)
    product = values.as_mapping(message.get("product"))
    price = values.format_price(product.get("priceAmount1000"), product.get("currencyCode"))
    words = (product.get("title"), price, product.get("description"), message.get("body"), message.get("footer"))
    return _single_part("product", *words, url=product.get("URL"))


def _order(value: object, _: MessageContext) -> FieldContent:
    order = values.as_mapping(value)
    count = values.as_int(order.get("itemCount"))
    items = f"{count} {'item' if count == 1 else 'items'}" if count else ""
    words = (
        order.get("orderTitle"),
        items,
        values.format_price(order.get("totalAmount1000"), order.get("totalCurrencyCode")),
    )
    return _single_part("order", *words, caption=order.get("message"))


def _invoice(value: object, _: MessageContext) -> FieldContent:
    return _single_part("invoice", values.as_mapping(value).get("note") or "without a note")


def _note(message: Json) -> object:
    return message.get("conversation") or values.as_mapping(message.get("extendedTextMessage")).get("text")


def _payment(value: object, _: MessageContext) -> FieldContent:
    payment = values.as_mapping(value)
    note = _note(values.as_mapping(payment.get("noteMessage")))
    price = values.format_price(payment.get("amount1000"), payment.get("currencyCodeIso4217"))
    return _single_part("payment", price or "how much is not told", caption=note)


def _sticker_pack(value: object, _: MessageContext) -> FieldContent:
    pack = values.as_mapping(value)
    return _single_part("pack of stickers", pack.get("name"), pack.get("publisher"), caption=pack.get("caption"))


def _planned_call(value: object, _: MessageContext) -> FieldContent:
    call = values.as_mapping(value)
    return _single_part(
        "planned call", call.get("title"), values.format_time(values.as_int(call.get("scheduledTimestampMS")) // 1000)
    )


def _fixed_text(words: str) -> Callable[[object, MessageContext], FieldContent]:
    return lambda value, context: FieldContent(parts=(shared_part("", words),))


PARSERS: Mapping[str, Callable[[object, MessageContext], FieldContent]] = {
    "conversation": lambda value, context: FieldContent(text=values.as_text(value)),
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
    "encCommentMessage": _fixed_text("a comment that WhatsApp does not let be read"),
    "buttonsMessage": _buttons,
    "listMessage": _list_message,
    "templateMessage": _template,
    "highlyStructuredMessage": _structured,
    "interactiveMessage": _interactive,
    "buttonsResponseMessage": _selection,
    "templateButtonReplyMessage": _selection,
    "listResponseMessage": _selection,
    "interactiveResponseMessage": _flow_answer,
    "questionResponseMessage": lambda value, context: FieldContent(
        text=values.as_text(values.as_mapping(value).get("text")),
        refers_to=values.message_id_in(values.as_mapping(value).get("key")),
    ),
    "groupInviteMessage": _group_invite,
    "newsletterAdminInviteMessage": _channel_invite,
    "newsletterFollowerInviteMessageV2": _channel_invite,
    "productMessage": _product,
    "orderMessage": _order,
    "invoiceMessage": _invoice,
    "sendPaymentMessage": _payment,
    "requestPaymentMessage": _payment,
    "declinePaymentRequestMessage": _fixed_text("a request for a payment was declined"),
    "cancelPaymentRequestMessage": _fixed_text("a request for a payment was taken back"),
    "paymentInviteMessage": _fixed_text("an invitation to payments in WhatsApp"),
    "stickerPackMessage": _sticker_pack,
    "scheduledCallCreationMessage": _planned_call,
    "requestPhoneNumberMessage": _fixed_text("a request for your phone number"),
    "placeholderMessage": _fixed_text("a message that WhatsApp shows on the phone only"),
}
