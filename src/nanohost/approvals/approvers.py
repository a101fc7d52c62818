"""Who is asked, in order, and where each can be reached. Pure.

Admins of the agent group come first, then admins of all, then owners; on the platform where it was asked for, if there
is a choice; every human once. Whoever asked decides about themselves only if nobody else can. Never in a group, and so
never in the group that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from nanohost.store.roles import Grant
from nanohost_protocol.rows import Origin

ChannelKey = tuple[str, str]
TERMINAL = "terminal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One of the people who could decide, as one platform knows them. `person` is the same for all of one human; `dms`:
    their direct chats that are known."""

    user_id: str
    person: str
    dms: tuple[Origin, ...] = ()

    @property
    def channel_type(self) -> str:
        return self.user_id.partition(":")[0]

    @property
    def handle(self) -> str:
        """What the platform knows them by."""
        return self.user_id.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to reach one of them. `place`: their direct chat; None: it has to be opened on `channel` first."""

    identity: Identity
    channel: ChannelKey
    place: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the choice depends on. `usable`: the channels of this host; `opens`: those that can write to somebody first;
    `groups`: chats that are known to be no direct ones."""

    identities: Sequence[Identity]
    grants: Sequence[Grant]
    tier: Callable[[Grant], int | None]
    origin: Origin | None
    requester: str
    usable: Collection[ChannelKey]
    opens: Collection[ChannelKey]
    groups: Collection[tuple[str, str, str]] = ()


def approvers(now: Situation) -> list[list[Way]]:
    """One entry a person who can be reached, first to be asked first: the ways to reach them, the best first."""
    known = {one.user_id: one.person for one in now.identities}
    asking = known.get(now.requester, now.requester)
    ranked = []
    for person, tier in _tiers(now, known).items():
        ways = sorted(_ways(now, person), key=lambda way: _distance(way, now.origin))
        if ways:
            ranked.append((person == asking, tier, _distance(ways[0], now.origin)[0], ways))
    return [ways for *_, ways in sorted(ranked, key=lambda one: one[:3])]


def still_to_ask(
    people: Sequence[Sequence[Way]],
    *,
    asked: Collection[str],
    hopeless: Collection[str],
    tried: Collection[tuple[str, ChannelKey | None]],
) -> list[list[Way]]:
    """Whom to ask next, when who was asked has no card. Everybody once; then those whom it did not reach, where it was
    not tried. `asked` are persons, `hopeless` those of whom it is known that no other way leads to them; `tried`:
    identities, and the channels where they were sent a card."""
    new = [list(ways) for ways in people if ways[0].identity.person not in asked]
    again = [
        [way for way in ways if (way.identity.user_id, way.channel) not in tried]
        for ways in people
        if ways[0].identity.person in asked and ways[0].identity.person not in hopeless
    ]
    return [*new, *(ways for ways in again if ways)]


def _tiers(now: Situation, known: dict[str, str]) -> dict[str, int]:
    """Each person who may decide, with the earliest of their turns."""
    found: dict[str, int] = {}
    for grant in now.grants:
        tier = now.tier(grant)
        if tier is not None:
            person = known.get(grant.user_id, grant.user_id)
            found[person] = min(tier, found.get(person, tier))
    return found


def _ways(now: Situation, person: str) -> Iterable[Way]:
    for one in now.identities:
        if one.person != person:
            continue
        places = [dm for dm in one.dms if _is_usable(dm, now)]
        yield from (Way(identity=one, channel=(dm.channel_type, dm.instance), place=dm) for dm in places)
        reached = {(dm.channel_type, dm.instance) for dm in places}
        yield from (
            Way(identity=one, channel=key, place=None)
            for key in sorted(now.opens)
            if key[0] == one.channel_type and key in now.usable and key not in reached
        )


def _is_usable(dm: Origin, now: Situation) -> bool:
    is_group = (dm.channel_type, dm.instance, dm.platform_id) in now.groups
    return not is_group and (dm.channel_type, dm.instance) in now.usable


def _distance(way: Way, origin: Origin | None) -> tuple[int, bool, bool]:
    """The same platform before another one, and the terminal, where nobody may sit, last; the same bot before another
    one, a chat that is known before a new one."""
    here = (None, None) if origin is None else (origin.channel_type, origin.instance)
    platform = 0 if way.channel[0] == here[0] else 2 if way.channel[0] == TERMINAL else 1
    return platform, way.channel != here, way.place is None
