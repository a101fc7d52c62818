"""Send something to a chat in each form that a channel can send."""

from __future__ import annotations

from pathlib import Path

from nanohost.channel_api import Address, Channel, OutboundCard, OutboundFile, OutboundText, SendsCards, SendsFiles


async def send_message(channel: Channel, there: Address, what: str, folder: Path) -> None:
    """`what`: text, card or file; the file is made in `folder`."""
    if what == "text":
        await channel.send(there, OutboundText(text="ours"), idempotency_key="k")
    elif what == "card":
        assert isinstance(channel, SendsCards)
        await channel.send_card(there, OutboundCard(text="ours", buttons=()), idempotency_key="k")
    else:
        assert isinstance(channel, SendsFiles)
        (folder / "plan.txt").write_text("plan")
        file = OutboundFile(content=folder / "plan.txt", name="plan.txt", media_type="text/plain", size=4)
        await channel.send_file(there, file, idempotency_key="k")
