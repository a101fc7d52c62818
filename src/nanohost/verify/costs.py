"""Checks the token counts that runners report against those of the gateway."""

from __future__ import annotations

from nanohost.verify.finding import MAX_ROWS, VerifyContext

TOLERANCE_TOKENS = 10_000
"""Tokens, in addition to a tenth: a host that is killed loses the record of a call that has just passed."""
OVERREPORTED = f"""
SELECT session_id, told, seen FROM (
    SELECT t.session_id, total(t.tokens_in + t.tokens_out + t.tokens_cached) AS told,
        total(t.gateway_tokens) + (
            SELECT total(c.tokens_in + c.tokens_out + c.tokens_cached + c.tokens_cache_written) FROM model_calls c
            WHERE c.session_id = t.session_id AND c.turn_id IS NULL) AS seen
    FROM turn_costs t WHERE t.gateway_calls IS NOT NULL GROUP BY t.session_id HAVING total(t.gateway_calls) > 0
)
WHERE told > seen * 1.1 + {TOLERANCE_TOKENS} LIMIT ?
"""  # noqa: S608


async def reported_tokens_match_gateway(install: VerifyContext) -> list[str]:
    """If a session's calls pass the gateway, its runner reports no more tokens than the gateway counted.

    The gateway may count more: only the gateway sees turns that were stopped or killed, and subagents, which is why
    costs are counted there.
    """
    return [
        f"the runner of session {row['session_id']} tells of {row['told']:.0f} tokens,"
        f" the gateway saw {row['seen']:.0f}"
        for row in await install.store.fetch_all(OVERREPORTED, (MAX_ROWS,))
    ]
