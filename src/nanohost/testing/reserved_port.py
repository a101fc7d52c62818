"""A port that stays a test's own, also while nobody listens there."""

from __future__ import annotations

import socket
import sys
import weakref


class ReservedPort:
    """A free port of 127.0.0.1 that no other program is given for as long as this object lives.

    What only looks for a free port and lets go of it may lose it to any connection of the machine before it is listened
    at. On Linux a socket that is bound and does not listen keeps the number, refuses who connects, and lets a server of
    ours listen there that sets SO_REUSEADDR, as those of asyncio do. Other systems refuse that server, so there the
    number is let go.
    """

    def __init__(self) -> None:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        self.number: int = holder.getsockname()[1]
        self.release = weakref.finalize(self, holder.close)
        if sys.platform != "linux":
            holder.close()
