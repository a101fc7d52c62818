"""A simulated platform can be told to send each kind that people send there beside words."""

from __future__ import annotations

import io

import pytest

from nanohost.testing.simulated import find, serve


@pytest.mark.parametrize("platform", ["discord", "slack", "whatsapp", "whatsapp_linked"])
async def test_each_kind_can_be_sent_from_the_terminal(platform: str) -> None:
    simulator, shown = find(platform), io.StringIO()
    kinds = simulator.kinds()
    written = await serve(simulator, io.StringIO("".join(f"/send {kind}\n" for kind in kinds)), shown)
    assert written == len(kinds) > 20
    assert len(simulator.screen(simulator.dm, sender=None)) == len(kinds) - 1, "one is deleted"
    assert all(kind in shown.getvalue() for kind in kinds)
    assert not any("," in kind for kind in kinds), "they are listed with commas between them"
