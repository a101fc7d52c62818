"""The mutated modules, which make decisions, and the tests of each. New modules with decisions are added here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

DECISIONS: Mapping[str, Sequence[str]] = {
    # access
    "src/nanohost/access/decision.py": ("access/test_decision.py", "access/test_table.py"),
    # approvals
    "src/nanohost/guard/guard.py": ("guard/test_ruling.py",),
    "src/nanohost/approvals/approvers.py": ("approvals/test_approvers.py",),
    # retry classes
    "src/nanohost/containers/retry_policy.py": ("containers/test_retry_policy.py", "containers/test_sentences.py"),
    "src/nanohost/containers/model_backoff.py": ("containers/test_model_backoff.py", "containers/test_retry_policy.py"),
    "src/nanohost/delivery/outcome.py": ("delivery/test_outcome.py",),
    # claims
    "container/agent_runner/claims.py": ("runner/test_claims.py", "runner/test_commands.py"),
    # order
    "src/nanohost_protocol/sequence.py": ("protocol/test_ids_times_sequence.py",),
    "src/nanohost/delivery/rate_limiter.py": ("delivery/test_rate_limiter.py",),
}
"""Paths from the root; the tests' are from tests/."""
