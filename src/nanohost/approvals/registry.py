"""The registry of approval kinds. A file of `kinds` with a KIND is one, and is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from nanohost.approvals.kind import ApprovalKind


@cache
def approval_kinds() -> dict[str, ApprovalKind]:
    """Returns all kinds by name."""
    import nanohost.approvals.kinds as package

    found: dict[str, ApprovalKind] = {}
    for module in pkgutil.iter_modules(package.__path__):
        kind: ApprovalKind = importlib.import_module(f"{package.__name__}.{module.name}").KIND
        found[kind.name] = kind
    return dict(sorted(found.items()))
