"""Whether the model can be asked is tried when a host starts, said once, and tried again until it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from nanohost.gateway.gateway import Gateway
from nanohost.gateway.health import Complaint, Trouble
from nanohost.gateway.upstream import Upstream
from nanohost.model_watch import AGAIN_S, ModelWatch
from nanohost.testing.limits import HANG_S, seconds
from nanohost.testing.manual_clock import ManualClock
from tests.gateway.test_probe import answering


class Service:
    """Takes the key or not, as the test says; `asked`: how often for the list of models."""

    def __init__(self) -> None:
        self.status = 401
        self.asked = 0

    def __call__(self, request: web.BaseRequest) -> web.Response:
        self.asked += request.method == "GET"
        return web.json_response({"data": []}, status=self.status)


@asynccontextmanager
async def watching(
    clock: ManualClock, told: list[Complaint], base_url: str, *, is_asked: bool = True
) -> AsyncIterator[tuple[Gateway, ModelWatch]]:
    async def record(_: Sequence[object]) -> None:
        """Nothing is called."""

    async def asked() -> bool:
        return is_asked

    async def tell(complaint: Complaint) -> None:
        told.append(complaint)

    gateway = Gateway(upstream=Upstream(base_url=base_url, api_key="k"), record=record, clock=clock)
    watch = ModelWatch(gateway=gateway, clock=clock, is_asked=asked, tell=tell)
    async with gateway.opened():
        running = asyncio.create_task(watch.run())
        try:
            yield gateway, watch
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize("meanwhile", [401, 503])
async def test_a_wrong_key_is_told_once_and_tried_again_until_it_is_good(meanwhile: int) -> None:
    """An outage of the service in between is no end of it."""
    clock, service, told = ManualClock(), Service(), list[Complaint]()
    async with answering(service) as address, watching(clock, told, address) as (gateway, watch):
        found = await watch.tried(seconds(HANG_S))
        assert found is not None
        assert found.trouble is Trouble.KEY
        for tries in (1, 2):
            await clock.somebody_sleeps()
            assert service.asked == tries
            service.status = meanwhile if tries < 2 else 200
            await clock.advance(AGAIN_S)
        async with asyncio.timeout(seconds(HANG_S)):
            while gateway.health.standing.complaint is not None:  # noqa: ASYNC110 - an answer on its way
                await asyncio.sleep(0.01)
        assert (told, service.asked) == ([found], 3)
        assert clock.sleeping() == ()


async def test_a_network_that_is_away_is_in_the_status_and_told_nobody_in_a_chat() -> None:
    clock, told = ManualClock(), list[Complaint]()
    async with answering(Service()) as gone:
        pass
    async with watching(clock, told, gone) as (_, watch):
        found = await watch.tried(seconds(HANG_S))
        await clock.somebody_sleeps()
        assert found is not None
        assert found.trouble is Trouble.UNREACHABLE
        assert told == []


async def test_where_no_agent_asks_a_model_none_is_tried() -> None:
    clock, service, told = ManualClock(), Service(), list[Complaint]()
    async with answering(service) as address, watching(clock, told, address, is_asked=False) as (_, watch):
        assert await watch.tried(seconds(HANG_S)) is None
    assert service.asked == 0
