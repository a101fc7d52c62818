"""Examples of what people send beside words and files, as WhatsApp's documentation and its apps' types have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanohost.testing.content import ContentKind

Json = dict[str, object]


CLOUD: Mapping[str, Sequence[Json]] = {
    "text": [{"type": "text", "text": {"body": "hello"}}],
    "mention of somebody": [{"type": "text", "text": {"body": "@1002, shall we?"}}],
    "reply": [
        {
            "type": "text",
            "text": {"body": "is that right?"},
            "context": {"from": "1002", "id": "wamid.NOT_HEARD"},
        }
    ],
    "picture": [{"type": "image", "image": {"id": "9", "mime_type": "image/jpeg", "caption": "our garden"}}],
    "sound": [{"type": "audio", "audio": {"id": "9", "mime_type": "audio/mpeg", "voice": False}}],
    "film": [{"type": "video", "video": {"id": "9", "mime_type": "video/mp4", "caption": "the party"}}],
    "place": [
        {
            "type": "location",
            "location": {
                "latitude": 52.520008,
                "longitude": 13.404954,
                "name": "Cafe Blau",
                "address": "Hauptstr. 1",
                "url": "https://example.com/blau",
            },
        }
    ],
    "contacts": [
        {
            "type": "contacts",
            "contacts": [
                {
                    "name": {"formatted_name": "Bea Baum", "first_name": "Bea Baum"},
                    "phones": [{"phone": "+49 000 0000", "type": "CELL", "wa_id": "490000000"}],
                    "emails": [{"email": "bea@example.com"}],
                    "org": {"company": "Blau", "title": "cook"},
                },
                {
                    "name": {"formatted_name": "Cem", "first_name": "Cem"},
                    "urls": [{"url": "https://example.com/cem"}],
                    "birthday": "1990-01-02",
                },
            ],
        }
    ],
    "order": [
        {
            "type": "order",
            "order": {
                "catalog_id": "9",
                "text": "without onions",
                "product_items": [
                    {"product_retailer_id": "soup-1", "quantity": 2, "item_price": 4.5, "currency": "EUR"},
                    {"product_retailer_id": "bread", "quantity": 1, "item_price": 2, "currency": "EUR"},
                ],
            },
        }
    ],
    "answer to a form": [
        {
            "type": "interactive",
            "interactive": {
                "type": "nfm_reply",
                "nfm_reply": {
                    "name": "flow",
                    "body": "Sent",
                    "response_json": '{"flow_token":"secret","colour":"blue","sizes":[1,2]}',
                },
            },
        }
    ],
    "answer to a template's button": [{"type": "button", "button": {"text": "Yes please", "payload": "y"}}],
    "message that comes from an advertisement": [
        {
            "type": "text",
            "text": {"body": "is it still there?"},
            "referral": {
                "source_url": "https://fb.me/1",
                "source_id": "1",
                "source_type": "ad",
                "headline": "Bike for sale",
                "body": "red",
                "media_type": "image",
                "image_url": "https://example.com/i",
            },
        }
    ],
    "question about a product": [
        {
            "type": "text",
            "text": {"body": "is it blue?"},
            "context": {
                "from": "15550001111",
                "id": "wamid.P",
                "referred_product": {"catalog_id": "9", "product_retailer_id": "pot-5"},
            },
        }
    ],
    "forward": [{"type": "text", "text": {"body": "/stop is what the sign says"}, "context": {"forwarded": True}}],
    "forward of many times": [
        {"type": "text", "text": {"body": "Send this to ten friends"}, "context": {"frequently_forwarded": True}}
    ],
    "kind that Meta does not pass on": [
        {
            "type": "unsupported",
            "errors": [
                {
                    "code": 131051,
                    "title": "Message type unknown",
                    "message": "Message type unknown",
                    "error_data": {"details": "Message type is currently not supported."},
                }
            ],
            "unsupported": {"type": "poll"},
        }
    ],
    "changed number": [
        {
            "type": "system",
            "system": {"body": "User Ada changed from 1001 to 1009", "wa_id": "1009", "type": "user_changed_number"},
        }
    ],
    "first opening": [{"type": "request_welcome"}],
    "something new": [{"type": "future_thing", "future_thing": {"a": 1}}],
    "voice message": [{"type": "audio", "audio": {"id": "9", "mime_type": "audio/ogg; codecs=opus", "voice": True}}],
    "sticker": [{"type": "sticker", "sticker": {"id": "9", "mime_type": "image/webp", "animated": False}}],
    "forwarded picture": [
        {
            "type": "image",
            "image": {"id": "9", "mime_type": "image/jpeg", "sha256": "x", "caption": "look at that"},
            "context": {"forwarded": True},
        }
    ],
    "forwarded place": [
        {"type": "location", "location": {"latitude": 52.5, "longitude": 13.4}, "context": {"forwarded": True}}
    ],
    "document": [{"type": "document", "document": {"id": "9", "mime_type": "application/pdf", "filename": "plan.pdf"}}],
    "place in a shape that is not known": [{"type": "location", "location": {"plus_code": "9F4M"}}],
}
"""What Meta's webhooks hold beside who wrote and when. A file's id is put in when it is sent."""

CLOUD_CONTENTS: Mapping[ContentKind, Sequence[str]] = {
    ContentKind.TEXT: ["text"],
    ContentKind.MENTION: ["mention of somebody"],
    ContentKind.REPLY: ["reply"],
    ContentKind.FORWARD: ["forward", "forward of many times", "forwarded picture", "forwarded place"],
    ContentKind.PHOTO: ["picture"],
    ContentKind.VOICE: ["voice message"],
    ContentKind.AUDIO: ["sound"],
    ContentKind.VIDEO: ["film"],
    ContentKind.DOCUMENT: ["document"],
    ContentKind.STICKER: ["sticker"],
    ContentKind.LOCATION: ["place"],
    ContentKind.CONTACT: ["contacts"],
    ContentKind.PRODUCT: ["question about a product"],
    ContentKind.ORDER: ["order"],
    ContentKind.ADVERTISEMENT: ["message that comes from an advertisement"],
    ContentKind.CHOICE: ["answer to a template's button"],
    ContentKind.FORM: ["answer to a form"],
    ContentKind.ID_CHANGED: ["changed number"],
    ContentKind.SERVICE: ["first opening"],
    ContentKind.UNKNOWN: ["something new", "kind that Meta does not pass on"],
    ContentKind.UNREADABLE: ["place in a shape that is not known"],
}
"""What each of them is an example of; what people do to messages comes beside it."""

LINKED: Mapping[str, Sequence[Json]] = {
    "text": [{"conversation": "hello"}],
    "mention of somebody": [
        {
            "extendedTextMessage": {
                "text": "@1002, shall we?",
                "contextInfo": {"mentionedJID": ["1002@s.whatsapp.net"]},
            }
        }
    ],
    "picture": [{"imageMessage": {"mimetype": "image/jpeg", "caption": "our garden"}}],
    "voice message": [{"audioMessage": {"mimetype": "audio/ogg; codecs=opus", "seconds": 4, "PTT": True}}],
    "sound": [{"audioMessage": {"mimetype": "audio/mpeg", "seconds": 4, "PTT": False}}],
    "film": [{"videoMessage": {"mimetype": "video/mp4", "caption": "the party"}}],
    "document": [
        {
            "documentWithCaptionMessage": {
                "message": {
                    "documentMessage": {
                        "mimetype": "application/pdf",
                        "fileName": "plan.pdf",
                        "caption": "the plan",
                    }
                }
            }
        }
    ],
    "sticker": [{"stickerMessage": {"mimetype": "image/webp"}}],
    "place in a shape that is not known": [{"locationMessage": {"plusCode": "9F4M"}}],
    "setting of the chat": [{"protocolMessage": {"type": "EPHEMERAL_SETTING"}}],
    "message that comes from an advertisement": [
        {
            "extendedTextMessage": {
                "text": "is it still there?",
                "contextInfo": {
                    "externalAdReply": {
                        "title": "Bike for sale",
                        "body": "red",
                        "sourceURL": "https://fb.me/1",
                    }
                },
            }
        }
    ],
    "place": [{"locationMessage": {"degreesLatitude": 52.5, "degreesLongitude": 13.4, "name": "Cafe Blau"}}],
    "contact": [
        {"contactMessage": {"displayName": "Bea Baum", "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Bea Baum\nEND:VCARD"}}
    ],
    "live place": [
        {"liveLocationMessage": {"degreesLatitude": 52.520008, "degreesLongitude": 13.404954, "caption": "on my way"}}
    ],
    "contacts": [
        {
            "contactsArrayMessage": {
                "displayName": "2 contacts",
                "contacts": [
                    {
                        "displayName": "Bea Baum",
                        "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Bea Baum\nTEL;waid=490000000:+49 000 0000\nEND:VCARD",
                    },
                    {
                        "displayName": "Cem",
                        "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Cem\nEMAIL:cem@example.com\nORG:Blau;Kitchen\nEND:VCARD",
                    },
                ],
            }
        }
    ],
    "poll": [
        {
            "pollCreationMessageV3": {
                "encKey": "AAAA",
                "name": "Lunch?",
                "options": [{"optionName": "Pizza"}, {"optionName": "Soup"}],
                "selectableOptionsCount": 1,
            }
        }
    ],
    "result of a poll": [
        {
            "pollResultSnapshotMessage": {
                "name": "Lunch?",
                "pollVotes": [
                    {"optionName": "Pizza", "optionVoteCount": "3"},
                    {"optionName": "Soup", "optionVoteCount": "1"},
                ],
            }
        }
    ],
    "event": [
        {
            "eventMessage": {
                "name": "Team dinner",
                "description": "Bring cake",
                "location": {"degreesLatitude": 52.5, "degreesLongitude": 13.4, "name": "Cafe Blau"},
                "startTime": "1795978800",
                "joinLink": "https://call.whatsapp.com/video/abc",
            }
        }
    ],
    "message with buttons": [
        {
            "buttonsMessage": {
                "contentText": "Your parcel is here",
                "footerText": "Post",
                "buttons": [
                    {"buttonID": "1", "buttonText": {"displayText": "Collect"}},
                    {"buttonID": "2", "buttonText": {"displayText": "Return"}},
                ],
            }
        }
    ],
    "answer to buttons": [
        {
            "buttonsResponseMessage": {
                "selectedButtonID": "2",
                "selectedDisplayText": "Return",
                "contextInfo": {
                    "stanzaID": "B1",
                    "participant": "1000@s.whatsapp.net",
                    "quotedMessage": {"buttonsMessage": {"contentText": "Your parcel is here"}},
                },
            }
        }
    ],
    "list to choose from": [
        {
            "listMessage": {
                "title": "Menu",
                "description": "Choose a soup",
                "buttonText": "Soups",
                "sections": [
                    {
                        "title": "Soups",
                        "rows": [
                            {"title": "Leek", "description": "hot", "rowID": "1"},
                            {"title": "Gazpacho", "rowID": "2"},
                        ],
                    }
                ],
            }
        }
    ],
    "answer to a list": [
        {
            "listResponseMessage": {
                "title": "Leek",
                "listType": "SINGLE_SELECT",
                "singleSelectReply": {"selectedRowID": "1"},
                "description": "hot",
            }
        }
    ],
    "template": [
        {
            "templateMessage": {
                "hydratedTemplate": {
                    "hydratedTitleText": "Blau",
                    "hydratedContentText": "Your table is booked",
                    "hydratedButtons": [
                        {"quickReplyButton": {"displayText": "Cancel", "ID": "c"}},
                        {"urlButton": {"displayText": "Details", "URL": "https://example.com/t"}},
                    ],
                }
            }
        }
    ],
    "interactive message": [
        {
            "interactiveMessage": {
                "header": {"title": "Offer"},
                "body": {"text": "Two for one"},
                "nativeFlowMessage": {
                    "buttons": [{"name": "quick_reply", "buttonParamsJSON": '{"display_text":"Take it","id":"1"}'}]
                },
            }
        }
    ],
    "answer to a form": [
        {
            "interactiveResponseMessage": {
                "body": {"text": "Sent"},
                "nativeFlowResponseMessage": {
                    "name": "flow",
                    "paramsJSON": '{"flow_token":"secret","colour":"blue","sizes":[1,2]}',
                    "version": 3,
                },
            }
        }
    ],
    "round video": [{"ptvMessage": {"mimetype": "video/mp4", "seconds": 4, "directPath": "/v/t62/1"}}],
    "picture to be seen once": [
        {
            "viewOnceMessageV2": {
                "message": {"imageMessage": {"mimetype": "image/jpeg", "caption": "only once", "viewOnce": True}}
            }
        }
    ],
    "message that disappears": [{"ephemeralMessage": {"message": {"extendedTextMessage": {"text": "gone tomorrow"}}}}],
    "invitation to a group": [
        {
            "groupInviteMessage": {
                "groupJID": "77@g.us",
                "inviteCode": "made-up",
                "groupName": "Kitchen",
                "caption": "come along",
            }
        }
    ],
    "product": [
        {
            "productMessage": {
                "product": {
                    "productID": "1",
                    "title": "Soup pot",
                    "description": "5 litres",
                    "currencyCode": "EUR",
                    "priceAmount1000": "19900",
                    "URL": "https://example.com/pot",
                },
                "businessOwnerJID": "1002@s.whatsapp.net",
            }
        }
    ],
    "order": [
        {
            "orderMessage": {
                "orderID": "1",
                "itemCount": 3,
                "orderTitle": "Cafe Blau",
                "message": "without onions",
                "totalAmount1000": "30500",
                "totalCurrencyCode": "EUR",
            }
        }
    ],
    "request for a payment": [
        {
            "requestPaymentMessage": {
                "noteMessage": {"extendedTextMessage": {"text": "for lunch"}},
                "currencyCodeIso4217": "EUR",
                "amount1000": "8000",
            }
        }
    ],
    "planned call": [
        {
            "scheduledCallCreationMessage": {
                "scheduledTimestampMS": "1795978800000",
                "callType": "VIDEO",
                "title": "Review",
            }
        }
    ],
    "pack of stickers": [{"stickerPackMessage": {"stickerPackID": "1", "name": "Cats", "publisher": "Bea"}}],
    "something new": [{"richResponseMessage": {"messageType": "AI_RICH_RESPONSE_TYPE_STANDARD"}}],
    "link with its preview": [
        {
            "extendedTextMessage": {
                "text": "read https://example.com/a",
                "matchedText": "https://example.com/a",
                "title": "Leeks",
                "description": "All about leeks",
            }
        }
    ],
    "reply": [
        {
            "extendedTextMessage": {
                "text": "really?",
                "contextInfo": {
                    "stanzaID": "M1",
                    "participant": "1002@s.whatsapp.net",
                    "partiallySelectedContent": {"text": "Tuesday"},
                    "quotedMessage": {"conversation": "The meeting is on Tuesday at 5"},
                },
            }
        }
    ],
    "forward": [
        {
            "extendedTextMessage": {
                "text": "/stop is what the sign says",
                "contextInfo": {"isForwarded": True, "forwardingScore": 1},
            }
        }
    ],
    "forward of many times": [
        {
            "extendedTextMessage": {
                "text": "Send this to ten friends",
                "contextInfo": {"isForwarded": True, "forwardingScore": 127},
            }
        }
    ],
    "forward of a channel": [
        {
            "extendedTextMessage": {
                "text": "Leeks are cheap",
                "contextInfo": {
                    "isForwarded": True,
                    "forwardingScore": 1,
                    "forwardedNewsletterMessageInfo": {
                        "newsletterJID": "1@newsletter",
                        "newsletterName": "Market news",
                    },
                },
            }
        }
    ],
    "album": [
        {
            "albumMessage": {
                "expectedImageCount": 2,
                "expectedVideoCount": 1,
                "contextInfo": {
                    "stanzaID": "M1",
                    "participant": "1002@s.whatsapp.net",
                    "quotedMessage": {"conversation": "Show me the garden"},
                },
            }
        },
        {
            "associatedChildMessage": {
                "message": {
                    "imageMessage": {"mimetype": "image/jpeg", "caption": "here it is"},
                    "messageContextInfo": {
                        "messageAssociation": {"associationType": "MEDIA_ALBUM", "parentMessageKey": {"ID": "ALBUM"}}
                    },
                }
            }
        },
        {
            "imageMessage": {"mimetype": "image/jpeg"},
            "messageContextInfo": {
                "messageAssociation": {"associationType": "MEDIA_ALBUM", "parentMessageKey": {"ID": "ALBUM"}}
            },
        },
        {
            "videoMessage": {"mimetype": "video/mp4"},
            "messageContextInfo": {
                "messageAssociation": {"associationType": "MEDIA_ALBUM", "parentMessageKey": {"ID": "ALBUM"}}
            },
        },
    ],
}
"""`waE2E.Message`s as protobuf's JSON. `ALBUM` stands for the id of the first of several."""

LINKED_CONTENTS: Mapping[ContentKind, Sequence[str]] = {
    ContentKind.TEXT: ["text"],
    ContentKind.MENTION: ["mention of somebody"],
    ContentKind.REPLY: ["reply"],
    ContentKind.FORWARD: ["forward", "forward of many times", "forward of a channel"],
    ContentKind.MULTIPLE_FILES: ["album"],
    ContentKind.PHOTO: ["picture"],
    ContentKind.VOICE: ["voice message"],
    ContentKind.AUDIO: ["sound"],
    ContentKind.VIDEO: ["film"],
    ContentKind.ROUND_VIDEO: ["round video"],
    ContentKind.DOCUMENT: ["document"],
    ContentKind.STICKER: ["sticker", "pack of stickers"],
    ContentKind.LOCATION: ["place"],
    ContentKind.LIVE_LOCATION: ["live place"],
    ContentKind.CONTACT: ["contact", "contacts"],
    ContentKind.POLL: ["poll"],
    ContentKind.VOTE: ["result of a poll"],
    ContentKind.EVENT: ["event", "planned call"],
    ContentKind.PAYMENT: ["request for a payment"],
    ContentKind.INVITATION: ["invitation to a group"],
    ContentKind.PRODUCT: ["product"],
    ContentKind.ORDER: ["order"],
    ContentKind.ADVERTISEMENT: ["message that comes from an advertisement"],
    ContentKind.PREVIEW: ["link with its preview"],
    ContentKind.CARD: ["message with buttons", "list to choose from", "template", "interactive message"],
    ContentKind.CHOICE: ["answer to buttons", "answer to a list"],
    ContentKind.FORM: ["answer to a form"],
    ContentKind.EPHEMERAL: ["picture to be seen once", "message that disappears"],
    ContentKind.SERVICE: ["setting of the chat"],
    ContentKind.UNKNOWN: ["something new"],
    ContentKind.UNREADABLE: ["place in a shape that is not known"],
}
"""What each of them is an example of; what people do to messages comes beside it."""
