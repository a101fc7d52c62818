"""Notices that take a failing machine to come about are wholly translated, with all that stands in them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanohost.containers.disk_usage import WatchedFolder, size_warning
from nanohost.containers.hold_service import held_text, hold_notice
from nanohost.containers.model_backoff import backoff_notice, failed_notice
from nanohost.containers.notices import start_failure_notice, with_operator_hint
from nanohost.containers.overdue_monitor import PENDING_NOTICE, QUARANTINED_NOTICE, UNDELIVERED_NOTICE
from nanohost.containers.retry_policy import REPEATED_CRASH_NOTICE, UNKNOWN_ERROR_NOTICE
from nanohost.containers.stuck_policy import DISK, Stuck
from nanohost.db.holds import Hold
from nanohost.db.rules import Rule, RuleEffect
from nanohost.db.turn_failures import TurnFailures
from nanohost.delivery.files import describe_file
from nanohost.gateway.model_health import missing_key_problem, unreachable_problem
from nanohost.gateway.model_service import Upstream
from nanohost.guard.rule_expiry import expiry_text
from nanohost.model import AgentGroupId, Session, SessionId
from nanohost.runtimes.docker_engine import engine_errors
from nanohost.text.languages import load_translations
from nanohost.text.phrases import format_datetime, join_names
from nanohost.text.translation import installed, translate
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.rows import ChatId, ErrorClass
from tests.support.pseudo_language import english_words, write_pseudo_language

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = frozenset({"main", "UTC", "workspace", "groups", "ada", "bob", "MiB"}) | {
    *("nanohost", "status", "sessions", "agents", "release")  # of commands
}
SESSION = Session(
    id=SessionId("s1"),
    agent_group_id=AgentGroupId(1),
    group_folder="main",
    messaging_group_id=None,
    thread_id=None,
    out_cursor=0,
    ack_cursor=0,
    lease=None,
    runtime=None,
    runtime_state={},
    due_at=None,
    created_at=NOW,
    last_active_at=NOW,
)
LIMITED = TurnFailures(
    error_class=ErrorClass.RATE_LIMITED,
    sentence="My model is limiting how much I may ask of it right now.",
    since=NOW - HOUR,
    latest_at=NOW,
    count=2,
    held_until=NOW + 3 * HOUR,
)
WORKSPACE = WatchedFolder(
    name="workspace", path=Path("/groups"), limit_bytes=2**20, setting="", owner="", is_group_wide=True
)
HOLD = Hold(id=1, created_by="host", created_at=NOW, reason="", is_group_hold=False, notified_chats=frozenset())
RULE = Rule(
    id=1,
    kind="`x`",
    effect=RuleEffect.ALLOW,
    agent_group_id=None,
    subject="x",
    created_by="fake:ada",
    created_at=NOW,
    expires_at=NOW,
    uses=2,
    last_used_at=NOW,
    ended_at=None,
    ended_by=None,
)
UPSTREAM = Upstream(base_url="http://192.0.2.1")


@pytest.fixture(autouse=True)
def pseudo_language(tmp_path: Path) -> Iterator[None]:
    write_pseudo_language(tmp_path)
    with installed(load_translations("pseudo", tmp_path)):
        yield


def engine_failure() -> Exception:
    try:
        with engine_errors("The Docker engine does not answer"):
            raise ConnectionRefusedError(111, "")
    except Exception as error:
        return error


def stuck(reason: str) -> Stuck:
    return Stuck(reason=reason, detail=size_warning(WORKSPACE, 2**30), is_group_wide=reason == DISK)


def notices() -> Iterator[str]:
    yield from (backoff_notice(LIMITED, NOW), failed_notice(LIMITED, NOW))
    yield from (PENDING_NOTICE, QUARANTINED_NOTICE, UNDELIVERED_NOTICE, REPEATED_CRASH_NOTICE, UNKNOWN_ERROR_NOTICE)
    yield from (start_failure_notice(OSError()), with_operator_hint(PENDING_NOTICE))
    yield from (held_text(SESSION, stuck(DISK)), held_text(SESSION, stuck("mailbox")))
    yield from (hold_notice(SESSION, HOLD, ChatId("fake", "default", "c1")), size_warning(WORKSPACE, 2**30))
    yield from (expiry_text(RULE, None), expiry_text(RULE, "main"))
    yield from (format_datetime(NOW, UTC), join_names(["ada", "bob", "main"]))
    yield from (missing_key_problem(UPSTREAM).message, unreachable_problem(UPSTREAM, "").message)
    yield describe_file(SessionLayout(Path("/a/b/c/d")), "o1", "../name")


def test_each_notice_is_wholly_translated() -> None:
    texts = [translate(text) for text in notices()]
    assert {text: words for text in texts if (words := english_words(text, known=NAMES))} == {}


def test_why_no_container_starts_and_what_the_operator_types_is_translated_but_what_the_engine_says() -> None:
    text = start_failure_notice(engine_failure())
    assert str(text).startswith("I cannot work right now: The Docker engine does not answer: ")
    assert str(text).endswith(
        '(For the operator: start Docker (systemctl start docker), or set [host] runtime = "bubblewrap")'
    )
    assert english_words(translate(text), known=frozenset({"ConnectionRefusedError", "Errno"})) == []


def test_in_the_terminal_the_operator_is_told_what_to_type_in_any_language() -> None:
    text = with_operator_hint(
        "I cannot reach my model: its key is missing or no longer valid. The operator has to renew it."
    )
    assert str(text).endswith("In this terminal that is you: nanohost model set")
    assert english_words(translate(text), known=frozenset({"nanohost", "model", "set"})) == []
