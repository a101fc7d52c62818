"""Address and key of the model are checked by the gateway's own client, against a stub and against other servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from nanohost.clock import SystemClock
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_health import (
    InconclusiveCheck,
    ModelHealth,
    ModelProblem,
    ModelProblemKind,
    rejected_key_problem,
    unreachable_problem,
    wrong_address_problem,
)
from nanohost.gateway.model_service import Upstream
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.gateway.conftest import KEY, MESSAGES, GatewayTestHost, make_request_body
from tests.support.messages_api import OVERLOADED, UNAUTHORIZED, StubMessagesApi

Answer = Callable[[web.BaseRequest], web.Response]

ANYWHERE = Upstream(base_url="http://127.0.0.1:9", api_key=KEY)
REFUSED, AWAY = rejected_key_problem(ANYWHERE, 401), unreachable_problem(ANYWHERE, "Connect call failed")


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A server that is not a Messages API, on a free port."""

    async def handle(request: web.BaseRequest) -> web.Response:
        return answer(request)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def checked(upstream: Upstream, *, before: ModelProblem | None = None) -> ModelProblem | InconclusiveCheck | None:
    """Check as a command does, without sessions. `before`: the problem of the last check."""

    async def record(_: object) -> None:
        """Records no call."""

    gateway = Gateway(upstream=upstream, record=record, clock=SystemClock())
    async with gateway.opened():
        if before is not None:
            gateway.health.report_problem(before)
        found = await gateway.check()
    standing = gateway.health.status
    is_over = found is None or (isinstance(found, InconclusiveCheck) and before == AWAY)
    assert standing.problem == (found if isinstance(found, ModelProblem) else None if is_over else before)
    assert (standing.last_success_at is not None) is (found is None), "only a good answer shows that it is good"
    return found


async def complaint_of(upstream: Upstream) -> ModelProblem | None:
    found = await checked(upstream)
    assert not isinstance(found, InconclusiveCheck)
    return found


@pytest.mark.behaviour("GW-08")
async def test_checking_a_valid_key_costs_one_request_for_a_list(api: StubMessagesApi) -> None:
    assert await checked(Upstream(base_url=api.base_url, api_key=KEY)) is None
    assert [(asked.method, asked.path) for asked in api.requests] == [("GET", "/v1/models")]


@pytest.mark.behaviour("GW-08")
async def test_a_refused_key_is_reported_with_a_hint_and_without_the_key(api: StubMessagesApi) -> None:
    complaint = await complaint_of(Upstream(base_url=api.base_url, api_key="sk-ant-wrong"))
    assert complaint is not None
    assert complaint.kind is ModelProblemKind.KEY_REJECTED
    assert complaint.message == "127.0.0.1 refuses the key for the model (401: invalid x-api-key)"
    assert complaint.hint == "nanohost model set"


async def test_a_key_repeated_by_the_service_is_not_shown() -> None:
    def refuse(_: web.BaseRequest) -> web.Response:
        return web.json_response({"error": {"message": "no such key: sk-ant-wrong\x1b[31m"}}, status=401)

    async with answering(refuse) as address:
        complaint = await complaint_of(Upstream(base_url=address, api_key="sk-ant-wrong"))
    assert complaint is not None
    assert complaint.message.endswith("(401: no such key: …[31m)")


@pytest.mark.behaviour("GW-08")
async def test_a_missing_key_for_the_public_service_is_reported_without_a_request() -> None:
    complaint = await complaint_of(Upstream())
    assert complaint is not None
    assert complaint.kind is ModelProblemKind.NO_KEY


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: web.Response(text="<html>Log in to the hotel", content_type="text/html"), "a page answers there"),
        (lambda asked: web.Response(status=404 if asked.method == "GET" else 200, text="<p>"), "a page answers there"),
        (lambda _: web.Response(status=302, headers={"location": "https://example.org"}), "redirect"),
        (lambda _: web.Response(status=404), "neither models nor messages are there (404)"),
    ],
    ids=["a page", "a page for messages alone", "a redirect", "nothing"],
)
async def test_an_address_that_is_not_a_model_api_is_reported(answer: Answer, why: str) -> None:
    async with answering(answer) as address:
        complaint = await complaint_of(Upstream(base_url=f"{address}/llm", api_key=KEY))
    assert complaint is not None
    assert complaint.kind is ModelProblemKind.WRONG_ADDRESS
    assert complaint.message.startswith(f"{address}/llm is not the address of a model: ")
    assert why in complaint.message
    assert complaint.hint == "nanohost model set --base-url URL"


@pytest.mark.behaviour("GW-08")
async def test_an_address_that_includes_the_api_path_is_reported_with_the_right_one(
    api: StubMessagesApi,
) -> None:
    complaint = await complaint_of(Upstream(base_url=f"{api.base_url}/v1/", api_key=KEY))
    assert complaint is not None
    assert complaint.hint == f"nanohost model set --base-url {api.base_url}"


@pytest.mark.behaviour("GW-08")
async def test_an_unreachable_or_invalid_address_is_reported(api: StubMessagesApi) -> None:
    async with answering(lambda _: web.Response()) as gone:
        pass
    nobody = await complaint_of(Upstream(base_url=gone, api_key=KEY))
    assert nobody is not None
    assert nobody.kind is ModelProblemKind.UNREACHABLE
    assert "127.0.0.1 cannot be reached: " in nobody.message
    with pytest.MonkeyPatch.context() as patch:
        for name in [one for one in os.environ if one.lower().endswith("_proxy")]:
            patch.delenv(name)
        patch.setenv("http_proxy", "http://u:hush@127.0.0.1:9")
        away = unreachable_problem(Upstream(base_url="http://192.0.2.1", api_key=KEY), "Connect call failed")
    assert away.message == "192.0.2.1 cannot be reached through the proxy 127.0.0.1:9 (http_proxy): Connect call failed"
    none = await complaint_of(Upstream(base_url="http://user:secret@:99999999/x", api_key=KEY))
    assert none is not None
    assert none.kind is ModelProblemKind.WRONG_ADDRESS
    assert "secret" not in none.message


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(
    ("status", "trouble"),
    [(400, None), (422, None), (401, ModelProblemKind.KEY_REJECTED), (405, ModelProblemKind.WRONG_ADDRESS)],
)
async def test_a_service_without_a_model_list_is_checked_with_an_invalid_request(
    status: int, trouble: ModelProblemKind | None
) -> None:
    asked: list[str] = []

    def answer(request: web.BaseRequest) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.Response(status=404 if request.method == "GET" else status)

    async with answering(answer) as address:
        complaint = await complaint_of(Upstream(base_url=address, api_key=KEY))
    assert (complaint.kind if complaint else None) is trouble
    assert asked == ["GET /v1/models", "POST /v1/messages"]


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(
    ("status", "trouble"), [(400, None), (404, ModelProblemKind.KEY_REJECTED), (403, ModelProblemKind.KEY_REJECTED)]
)
async def test_a_key_restricted_to_messages_is_valid(status: int, trouble: ModelProblemKind | None) -> None:
    def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=403 if request.method == "GET" else status)

    async with answering(answer) as address:
        complaint = await complaint_of(Upstream(base_url=address, api_key=KEY))
    assert (complaint.kind if complaint else None) is trouble


@pytest.mark.behaviour("GW-08")
async def test_an_address_with_another_protocol_is_reported(api: StubMessagesApi) -> None:
    """HTTP where HTTPS is expected, and a server that closes the connection."""
    secured = await complaint_of(Upstream(base_url=api.base_url.replace("http:", "https:"), api_key=KEY))

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        closed = await complaint_of(Upstream(base_url=f"http://127.0.0.1:{port}", api_key=KEY))
    assert secured is not None
    assert closed is not None
    assert secured.kind is closed.kind is ModelProblemKind.UNREACHABLE
    assert "closes the connection" in closed.message


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize("before", [None, REFUSED, wrong_address_problem(ANYWHERE, "a page answers there"), AWAY])
@pytest.mark.parametrize(("models", "messages"), [(429, 0), (500, 0), (529, 0), (400, 0), (404, 500), (403, 429)])
async def test_a_limited_or_failing_service_makes_the_check_inconclusive(
    models: int, messages: int, before: ModelProblem | None
) -> None:
    """Neither valid nor invalid; an earlier outage is over."""

    def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=models if request.method == "GET" else messages)

    async with answering(answer) as address:
        found = await checked(Upstream(base_url=address, api_key=KEY), before=before)
    assert found == InconclusiveCheck(status=messages or models)


async def test_a_key_that_no_header_can_hold_is_reported() -> None:
    async with answering(lambda _: web.Response()) as address:
        complaint = await complaint_of(Upstream(base_url=address, api_key="sk-\nant"))
    assert complaint is not None
    assert complaint.kind is ModelProblemKind.KEY_REJECTED


@pytest.mark.behaviour("GW-08")
async def test_a_successful_answer_clears_a_problem_and_a_refusal_sets_one(
    host: GatewayTestHost, api: StubMessagesApi, upstream: Upstream
) -> None:
    gateway = await host.open(upstream)
    client = await host.session(gateway)
    api.replies.extend([UNAUTHORIZED, OVERLOADED])
    for trouble in (
        ModelProblemKind.KEY_REJECTED,
        ModelProblemKind.KEY_REJECTED,
        None,
    ):  # an overloaded service says nothing about the key
        async with client.post(MESSAGES, json=make_request_body()) as answer:
            await answer.read()
        complaint = gateway.health.status.problem
        assert (complaint.kind if complaint else None) is trouble
    assert gateway.health.status.last_success_at is not None


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(
    ("content_type", "is_good"),
    [
        ("application/json; charset=utf-8", True),
        ("text/event-stream; charset=utf-8", True),
        ("text/html", False),
        ("text/plain", False),
    ],
)
@pytest.mark.parametrize("before", [REFUSED, AWAY])
async def test_only_an_answer_in_the_form_of_a_model_counts_as_success(
    host: GatewayTestHost, content_type: str, is_good: bool, before: ModelProblem
) -> None:
    """A captive portal has status 200, too."""

    def page(_: web.BaseRequest) -> web.Response:
        return web.Response(body=b"{}", headers={"content-type": content_type})

    async with answering(page) as address:
        gateway = await host.open(Upstream(base_url=address, api_key=KEY))
        client = await host.session(gateway)
        gateway.health.report_problem(before)
        async with client.post(MESSAGES, json=make_request_body()) as answer:
            await answer.read()
    standing = gateway.health.status
    assert standing.problem == (None if is_good or before == AWAY else before)
    assert (standing.last_success_at is not None) is is_good


@pytest.mark.behaviour("GW-08")
def test_an_outage_does_not_clear_an_earlier_problem() -> None:
    health = ModelHealth(ANYWHERE, ManualClock())
    health.report_problem(REFUSED)
    health.report_problem(AWAY)
    health.mark_reachable()
    assert health.status.problem == REFUSED
    health.mark_healthy()
    health.report_problem(AWAY)
    health.report_problem(REFUSED)
    assert health.status.problem == REFUSED, "somebody answered"


@pytest.mark.behaviour("GW-08")
async def test_a_task_that_waits_for_a_problem_is_woken_by_it(
    host: GatewayTestHost, api: StubMessagesApi, upstream: Upstream
) -> None:
    gateway = await host.open(upstream)
    client = await host.session(gateway)
    waiting = asyncio.create_task(gateway.health.wait_for_problem())
    api.replies.append(UNAUTHORIZED)
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        await answer.read()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        assert (await waiting).kind is ModelProblemKind.KEY_REJECTED
