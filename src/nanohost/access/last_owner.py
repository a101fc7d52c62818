"""There is always an owner: whoever takes the role away from the last one would leave nobody to ask."""

from __future__ import annotations

from collections.abc import Sequence

from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.store import roles
from nanohost.store.database import Transaction
from nanohost.store.roles import Grant


def is_last_owner(grants: Sequence[Grant], user_id: str) -> bool:
    """Whether this user, and no other, is an owner. Another identity of the same human that is one counts. Pure."""
    return {grant.user_id for grant in grants if grant.role is Role.OWNER} == {user_id}


async def refuse_last_owner(tx: Transaction, user_id: str) -> None:
    """To be asked in the transaction that takes the role away. Raises UsageError."""
    if is_last_owner(await roles.every(tx), user_id):
        raise UsageError(
            f"{user_id} is the last owner and stays it",
            hint="nanohost roles grant CHANNEL:HANDLE owner makes somebody else one first",
        )
