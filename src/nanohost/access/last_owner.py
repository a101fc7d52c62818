"""There is always an owner: whoever takes the role away from the last one would leave nobody to ask."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.store import roles
from nanohost.store.database import Transaction
from nanohost.store.roles import RoleGrant


def is_last_owner(grants: Sequence[RoleGrant], user_id: str, configured_channels: Collection[str]) -> bool:
    """Whether this user, and no other, is an owner. Another identity of the same human that is one counts; one on a
    channel that is not among `configured_channels` does not, where this user is on one that is: it can be a slip of the pen, and
    nobody would ever write from there. Pure."""
    owners = {grant.user_id for grant in grants if grant.role is Role.OWNER}
    others = owners - {user_id}
    if _channel_type(user_id) in configured_channels:
        others = {one for one in others if _channel_type(one) in configured_channels}
    return user_id in owners and not others


def _channel_type(user_id: str) -> str:
    return user_id.partition(":")[0]


async def check_not_last_owner(tx: Transaction, user_id: str, configured_channels: Collection[str]) -> None:
    """To be asked in the transaction that takes the role away. `configured_channels`: those that are set up. Raises UsageError."""
    if is_last_owner(await roles.list_deciders(tx), user_id, configured_channels):
        raise UsageError(
            f"{user_id} is the last owner and stays it",
            hint="nanohost roles grant CHANNEL:HANDLE owner makes another first, on a channel that is set up",
        )
