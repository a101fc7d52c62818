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


def most_grown(growths: Iterable[Growth], what: Scarce) -> Growth | None:
    """Whom to name: the folder that grew most, of those that did not grow the largest."""
    return max(growths, key=lambda one: (max(0, one.grown(what)), one.size(what)), default=None)


def clear_cause(growths: Sequence[Growth], space: Space, reserve: int, what: Scarce) -> Growth | None:
    """The folder without whose growth the disk would have room for all to go on, and that grew by more than half of
    what the disk lost meanwhile. None: nobody, or nobody alone, is the cause."""
    found = most_grown(growths, what)
    if found is None or found.before is None:
        return None
    grown, lost = found.grown(what), found.before.space.left(what) - space.left(what)
    would_do = space.left(what) + grown >= kept(space, reserve, what) * GO_ON
    return found if grown > 0 and would_do and grown > lost * MOST_OF_IT else None


def in_words(growth: Growth, what: Scarce) -> str:
    """A part of a sentence: which folder, whose, how large and by how much it grew."""
    folder = f"the {growth.watched.name} folder of {growth.watched.whose}"
    size, grown = _amount(growth.size(what), what), growth.grown(what)
    if grown > 0:
        return f"{folder} grew by {_amount(grown, what)} to {size} ({growth.watched.path})"
    return f"{folder} is the largest with {size} ({growth.watched.path})"


def why_held(growth: Growth, what: Scarce) -> str:
    """The reason of the hold."""
    grown, size = _amount(growth.grown(what), what), _amount(growth.size(what), what)
    return (
        f"its {growth.watched.name} folder grew by {grown} to {size} while the disk got short: remove what should not"
        f" be there ({growth.watched.path})"
    )


def _amount(amount: int, what: Scarce) -> str:
    return f"{amount / 1024**2:,.0f} MiB" if what is Scarce.BYTES else f"{amount:,} files"
