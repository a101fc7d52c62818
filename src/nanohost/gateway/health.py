"""What is known of the way to the model: from tries of our own, and from every answer that passes.

Promises: one complaint at a time, with what to type; it ends with the first answer that shows that it is over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from nanohost.clock import Clock
from nanohost.gateway.upstream import Upstream
from nanohost.proxies import through

SET_KEY = "nanohost model set"
SET_ADDRESS = "nanohost model set --base-url URL"
OF_A_MODEL = frozenset({"application/json", "text/event-stream"})
"""The content types of the Messages API's answers. A page that a network shows before it lets one out is of another."""

log = structlog.get_logger(__name__)


class Trouble(StrEnum):
    """What is wrong."""

    NO_KEY = "no_key"
    KEY = "key"
    """The service refuses it."""
    ADDRESS = "address"
    """Somebody answers there, and no model."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """`problem`: a sentence for the operator, without a full stop; `do`: what to type."""

    trouble: Trouble
    problem: str
    do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Somebody answers with this HTTP status, which says nothing of the key: a limit, or a failure of its own."""

    status: int


def no_key(upstream: Upstream) -> Complaint:
    return Complaint(trouble=Trouble.NO_KEY, problem=f"there is no key for the model at {upstream.host}", do=SET_KEY)


def key_refused(upstream: Upstream, status: int, words: str = "") -> Complaint:
    said = f"{status}: {words}" if words else str(status)
    return Complaint(trouble=Trouble.KEY, problem=f"{upstream.host} refuses the key for the model ({said})", do=SET_KEY)


def key_unfit(upstream: Upstream) -> Complaint:
    problem = f"the key for the model at {upstream.host} holds blanks or characters that no key has"
    return Complaint(trouble=Trouble.KEY, problem=problem, do=SET_KEY)


def wrong_address(upstream: Upstream, why: str) -> Complaint:
    """The service's clients put /v1 behind the address themselves, which many addresses in manuals have already."""
    shown = upstream.shown
    do = SET_ADDRESS
    if shown.endswith("/v1"):
        do = f"nanohost model set --base-url {shown.removesuffix('/v1')}"
    return Complaint(trouble=Trouble.ADDRESS, problem=f"{shown} is no address of a model: {why}", do=do)


def unreachable(upstream: Upstream, why: str) -> Complaint:
    return Complaint(
        trouble=Trouble.UNREACHABLE,
        problem=f"{upstream.host} cannot be reached{through(upstream.base_url)}: {why}",
        do=f"nanohost model check, when the network is up; if the address is wrong: {SET_ADDRESS}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How it stands: a complaint and since when, or when it was last seen to be good. Neither: nothing is known."""

    complaint: Complaint | None = None
    since: datetime | None = None
    good_at: datetime | None = None


class Health:
    """One per gateway. Told what happens; `complained` is waited for."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self.standing = Standing()
        self._event = asyncio.Event()

    def answered(self, status: int, content_type: str) -> None:
        """An answer to a client has begun with this HTTP status. `content_type`: in lower case, without parameters."""
        if 200 <= status < 300 and content_type in OF_A_MODEL:
            self.is_good()
        elif status == 401:
            self.complain(key_refused(self._upstream, status))
        else:
            self.is_reached()

    def complain(self, complaint: Complaint) -> None:
        """That nobody answers for a while ends nothing that was wrong before."""
        before = self.standing.complaint
        if before is not None and complaint.trouble in (before.trouble, Trouble.UNREACHABLE):
            return
        log.warning("model_wrong", problem=complaint.problem, hint=complaint.do)
        self.standing = Standing(complaint=complaint, since=self._clock.now(), good_at=self.standing.good_at)
        self._event.set()

    def is_good(self) -> None:
        if self.standing.complaint is not None:
            log.info("model_answers", host=self._upstream.host)
        self.standing = Standing(good_at=self._clock.now())
        self._event.clear()

    def is_reached(self) -> None:
        """Somebody answers, which ends that nobody does, and nothing else."""
        complaint = self.standing.complaint
        if complaint is not None and complaint.trouble is Trouble.UNREACHABLE:
            log.info("model_reached", host=self._upstream.host)
            self.standing = Standing(good_at=self.standing.good_at)
            self._event.clear()

    async def complained(self) -> Complaint:
        """Wait until there is something to complain of."""
        while (complaint := self.standing.complaint) is None:
            await self._event.wait()
        return complaint
