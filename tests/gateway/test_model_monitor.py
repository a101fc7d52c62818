"""The model is checked when a host starts, a problem is notified once, and checked until it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_health import ModelProblem, ModelProblemKind
from nanohost.gateway.model_monitor import RETRY_INTERVAL_S, ModelMonitor
from nanohost.gateway.model_service import Upstream
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.gateway.test_probe import answering


class Service:
    """Accepts the key or not, as the test says; `asked`: the number of requests for the list of models."""

    def __init__(self) -> None:
        self.status = 401
        self.asked = 0

    def __call__(self, request: web.BaseRequest) -> web.Response:
        self.asked += request.method == "GET"
        return web.json_response({"data": []}, status=self.status)


@asynccontextmanager
async def watching(
    clock: ManualClock, told: list[ModelProblem], base_url: str, *, is_asked: bool = True
) -> AsyncIterator[tuple[Gateway, ModelMonitor]]:
    async def record(_: Sequence[object]) -> None:
        """Records no call."""

    async def asked() -> bool:
        return is_asked

    async def tell(complaint: ModelProblem) -> None:
        told.append(complaint)

    gateway = Gateway(upstream=Upstream(base_url=base_url, api_key="k"), record=record, clock=clock)
    watch = ModelMonitor(gateway=gateway, clock=clock, is_model_used=asked, notify_owners=tell)
    async with gateway.opened():
        running = asyncio.create_task(watch.run())
        try:
            yield gateway, watch
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize("meanwhile", [401, 503])
async def test_a_wrong_key_is_notified_once_and_checked_until_it_is_right(meanwhile: int) -> None:
    """An outage of the service in between does not end the problem."""
    clock, service, told = ManualClock(), Service(), list[ModelProblem]()
    async with answering(service) as address, watching(clock, told, address) as (gateway, watch):
        found = await watch.wait_for_first_check(scaled_timeout(HANG_TIMEOUT_S))
        assert found is not None
        assert found.kind is ModelProblemKind.KEY_REJECTED
        for tries in (1, 2):
            await clock.wait_for_sleeper()
            assert service.asked == tries
            service.status = meanwhile if tries < 2 else 200
            await clock.advance(RETRY_INTERVAL_S)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while gateway.health.status.problem is not None:  # noqa: ASYNC110 - an answer on its way
                await asyncio.sleep(0.01)
        assert (told, service.asked) == ([found], 3)
        assert clock.remaining_sleeps_s() == ()


async def test_an_unreachable_network_is_in_the_status_and_not_notified() -> None:
    clock, told = ManualClock(), list[ModelProblem]()
    async with answering(Service()) as gone:
        pass
    async with watching(clock, told, gone) as (_, watch):
        found = await watch.wait_for_first_check(scaled_timeout(HANG_TIMEOUT_S))
        await clock.wait_for_sleeper()
        assert found is not None
        assert found.kind is ModelProblemKind.UNREACHABLE
        assert told == []


async def test_without_an_agent_that_uses_a_model_no_key_is_checked() -> None:
    clock, service, told = ManualClock(), Service(), list[ModelProblem]()
    async with answering(service) as address, watching(clock, told, address, is_asked=False) as (_, watch):
        assert await watch.wait_for_first_check(scaled_timeout(HANG_TIMEOUT_S)) is None
    assert service.asked == 0
