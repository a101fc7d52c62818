"""Ranks the approvers of a request, and the chats where each of them can be reached. Pure.

Admins of the agent group come first, then global admins, then owners; each person once, if possible on the platform of
the request. The requester decides only if nobody else can. Cards are never sent to a group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from nanohost.db.roles import RoleGrant
from nanohost_protocol.rows import Origin

ChannelKey = tuple[str, str]
TERMINAL_CHANNEL = "terminal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One identity of a possible approver. `person_id` is the same for all identities of one person; `direct_chats`:
    their known direct chats."""

    user_id: str
    person_id: str
    direct_chats: tuple[Origin, ...] = ()

    @property
    def channel_type(self) -> str:
        return self.user_id.partition(":")[0]

    @property
    def handle(self) -> str:
        """Their handle on the platform."""
        return self.user_id.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproverAddress:
    """The address of an approver. `direct_chat` None: a direct chat has to be opened on `channel` first."""

    identity: Identity
    channel: ChannelKey
    direct_chat: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproverContext:
    """The data for ranking approvers. `usable_channels`: the channels of this host; `dm_capable_channels`: those that
    can open a direct chat; `group_chats`: chats that are known to be groups."""

    identities: Sequence[Identity]
    grants: Sequence[RoleGrant]
    tier_of: Callable[[RoleGrant], int | None]
    origin: Origin | None
    requester_id: str
    usable_channels: Collection[ChannelKey]
    dm_capable_channels: Collection[ChannelKey]
    group_chats: Collection[tuple[str, str, str]] = ()


def rank_approvers(context: ApproverContext) -> list[list[ApproverAddress]]:
    """Returns the addresses of each reachable approver, the best first; the approver to ask first comes first."""
    known = {one.user_id: one.person_id for one in context.identities}
    asking = known.get(context.requester_id, context.requester_id)
    ranked = []
    for person, tier in _person_tiers(context, known).items():
        ways = sorted(_addresses(context, person), key=lambda way: _distance(way, context.origin))
        if ways:
            ranked.append((person == asking, tier, _distance(ways[0], context.origin)[0], ways))
    return [ways for *_, ways in sorted(ranked, key=lambda one: one[:3])]


def next_approvers(
    ranked: Sequence[Sequence[ApproverAddress]],
    *,
    asked_persons: Collection[str],
    unreachable_persons: Collection[str],
    tried_addresses: Collection[tuple[str, ChannelKey | None]],
) -> list[list[ApproverAddress]]:
    """Returns the approvers to ask next, when no earlier card was delivered.

    Everybody is asked once; then those that the card did not reach, at other addresses. `unreachable_persons`: have no
    other address. `tried_addresses`: identities, with the channels on which they were sent a card.
    """
    new = [list(ways) for ways in ranked if ways[0].identity.person_id not in asked_persons]
    again = [
        [way for way in ways if (way.identity.user_id, way.channel) not in tried_addresses]
        for ways in ranked
        if ways[0].identity.person_id in asked_persons and ways[0].identity.person_id not in unreachable_persons
    ]
    return [*new, *(ways for ways in again if ways)]


def _person_tiers(context: ApproverContext, person_by_user: dict[str, str]) -> dict[str, int]:
    """Returns each person who may decide, with the lowest tier of their roles."""
    found: dict[str, int] = {}
    for grant in context.grants:
        tier = context.tier_of(grant)
        if tier is not None:
            person = person_by_user.get(grant.user_id, grant.user_id)
            found[person] = min(tier, found.get(person, tier))
    return found


def _addresses(context: ApproverContext, person: str) -> Iterable[ApproverAddress]:
    for one in context.identities:
        if one.person_id != person:
            continue
        places = [dm for dm in one.direct_chats if _is_usable(dm, context)]
        yield from (
            ApproverAddress(identity=one, channel=(dm.channel_type, dm.instance), direct_chat=dm) for dm in places
        )
        reached = {(dm.channel_type, dm.instance) for dm in places}
        yield from (
            ApproverAddress(identity=one, channel=key, direct_chat=None)
            for key in sorted(context.dm_capable_channels)
            if key[0] == one.channel_type and key in context.usable_channels and key not in reached
        )


def _is_usable(dm: Origin, context: ApproverContext) -> bool:
    is_group = (dm.channel_type, dm.instance, dm.platform_id) in context.group_chats
    return not is_group and (dm.channel_type, dm.instance) in context.usable_channels


def _distance(address: ApproverAddress, origin: Origin | None) -> tuple[int, bool, bool]:
    """Returns the sort key of an address: the platform of the request first, the terminal last, as it may be unused;
    then the same bot, then a known chat."""
    here = (None, None) if origin is None else (origin.channel_type, origin.instance)
    platform = 0 if address.channel[0] == here[0] else 2 if address.channel[0] == TERMINAL_CHANNEL else 1
    return platform, address.channel != here, address.direct_chat is None
