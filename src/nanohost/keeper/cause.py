"""Who made a disk short. Pure: how folders have grown since the disk had plenty, and what it has left, in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nanohost.keeper.footprint import Mark, Watched
from nanohost.keeper.space import GO_ON, Scarce, Space, kept
from nanohost.model import Session

MOST_OF_IT = 0.5
"""Of what the disk lost: who wrote more than that wrote more than all others together, be they known or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What a folder took while its disk had plenty, and what it takes now. `device`: its file system. `before` is None
    when it was not counted then. `session`: one of those that write it."""

    watched: Watched
    session: Session
    device: int
    now: Mark
    before: Mark | None = None

    def size(self, what: Scarce) -> int:
        return self.now.count.blocks if what is Scarce.BYTES else self.now.count.entries

    def grown(self, what: Scarce) -> int:
        """0 when it is not known."""
        if self.before is None:
            return 0
        count = self.before.count
        return self.size(what) - (count.blocks if what is Scarce.BYTES else count.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who made a disk short: a session, or with `of_group` its agent group. `growths`: of all folders it writes."""

    session: Session
    of_group: bool
    growths: Sequence[Growth]

    def grown(self, what: Scarce) -> int:
        return sum(max(0, one.grown(what)) for one in self.growths)


def most_grown(growths: Iterable[Growth], what: Scarce) -> Growth | None:
    """Whom to name: the folder that grew most, of those that did not grow the largest."""
    return max(growths, key=lambda one: (max(0, one.grown(what)), one.size(what)), default=None)


def clear_cause(growths: Sequence[Growth], space: Space, reserve: int, what: Scarce) -> Cause | None:
    """Whoever has folders without whose growth the disk would have room for all to go on, and that grew by more than
    half of what the disk lost meanwhile: a session if it is one alone, else an agent group. None: nobody, or nobody
    alone, is the cause."""
    for suspects in (_by_session(growths), _by_group(growths)):
        found = max(suspects, key=lambda one: one.grown(what), default=None)
        if found is not None and _is_clear(found, space, reserve, what):
            return found
    return None


def _by_session(growths: Iterable[Growth]) -> list[Cause]:
    own = [one for one in growths if not one.watched.of_group]
    return [
        Cause(session=one.session, of_group=False, growths=[each for each in own if each.session.id == one.session.id])
        for one in own
    ]


def _by_group(growths: Sequence[Growth]) -> list[Cause]:
    """What lies in a workspace is any of its sessions' doing, so it is the group's; a session may fill all three."""
    return [
        Cause(
            session=one.session,
            of_group=True,
            growths=[each for each in growths if each.session.agent_group_id == one.session.agent_group_id],
        )
        for one in growths
    ]


def _is_clear(cause: Cause, space: Space, reserve: int, what: Scarce) -> bool:
    grown = cause.grown(what)
    befores = [one.before.space.left(what) for one in cause.growths if one.before is not None and one.grown(what) > 0]
    if not befores:
        return False
    would_do = space.left(what) + grown >= kept(space, reserve, what) * GO_ON
    return would_do and grown > (max(befores) - space.left(what)) * MOST_OF_IT


def in_words(growth: Growth, what: Scarce) -> str:
    """A part of a sentence: which folder, whose, how large and by how much it grew."""
    folder = f"the {growth.watched.name} folder of {growth.watched.whose}"
    size, grown = _amount(growth.size(what), what), growth.grown(what)
    if grown > 0:
        return f"{folder} grew by {_amount(grown, what)} to {size} ({growth.watched.path})"
    return f"{folder} is the largest with {size} ({growth.watched.path})"


def why_held(cause: Cause, what: Scarce) -> str:
    """The reason of the hold."""
    most = most_grown(cause.growths, what)
    assert most is not None, "a cause has grown"
    grown, size = _amount(cause.grown(what), what), _amount(most.size(what), what)
    return (
        f"it took {grown} while the disk got short, most of it in its {most.watched.name} folder, which takes {size} "
        f"now: remove what should not be there ({most.watched.path})"
    )


def _amount(amount: int, what: Scarce) -> str:
    return f"{amount / 1024**2:,.0f} MiB" if what is Scarce.BYTES else f"{amount:,} files"
