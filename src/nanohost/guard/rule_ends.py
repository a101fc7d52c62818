"""Ends rules whose time is up, and says so to those who made them.

A rule decides nothing from its end on, whenever this comes to look: it is the record that is brought up to date here.
Promises: the end, its entry in the audit log and what its maker reads are one transaction. A maker reads one message
for all that ended together, with how often each was used: one that nobody used need not be given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import NoReturn

from nanohost.access.wording import named_rule
from nanohost.aftermath import Aftermath, Follows
from nanohost.clock import Clock
from nanohost.store import audit, host_messages, rules, users
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Queries, Store, Transaction
from nanohost.store.rules import Rule
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin

LOOK_EVERY_S = 3600.0
LEAST_S = 1.0
BY_HOST = "host"
MOST_LINES = 20
"""Of one message; the record has them all."""
