"""Migrating any earlier database to this version: never silently, never half, with a backup first."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

import nanohost.db
from nanohost.config.shipped import shipped_root
from nanohost.db import model_calls, turn_costs
from nanohost.db.migrations import Migration, load_migrations, migrate
from nanohost.errors import StoreError

ONE = Migration(set_name="core", name="0001_one", sql="CREATE TABLE one (x TEXT) STRICT;\n")
TWO = Migration(set_name="core", name="0002_two", sql="ALTER TABLE one ADD COLUMN y TEXT;\n")
SKILL = Migration(set_name="skill", name="0001_one", sql="CREATE TABLE skill_one (x TEXT) STRICT;\n")
OTHER = Migration(set_name="other", name="0001_one", sql="CREATE TABLE other_one (x TEXT) STRICT;\n")


def tables(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table with its columns, every index with its SQL."""
    with closing(sqlite3.connect(database)) as db:
        found: dict[str, list[tuple[object, ...]]] = {}
        for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall():
            plain = " ".join(line.split("--")[0].strip() for line in (sql or "").splitlines())
            plain = re.sub(r'"(\w+)"', r"\1", plain)  # SQLite quotes the name of a table that was renamed
            found[f"{kind} {name}"] = [
                *db.execute('SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', (name,)),
                (re.sub(r" ?([(),]) ?", r"\1", " ".join(plain.split()).replace("IF NOT EXISTS ", "")),),
            ]
        return found


def data(database: Path) -> list[str]:
    """All of its content, as SQL."""
    with closing(sqlite3.connect(database)) as db:
        return list(db.iterdump())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "nanohost.db"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "data" / "backups"


def test_schema_sql_is_the_sum_of_the_migrations(database: Path, backups: Path, tmp_path: Path) -> None:
    migrate(database, load_migrations([shipped_root() / "migrations"]), backups=backups)
    schema = Path(nanohost.db.__file__).with_name("schema.sql")
    with closing(sqlite3.connect(tmp_path / "sum.db")) as db:
        db.executescript(schema.read_text(encoding="utf-8"))
    summed, migrated = tables(tmp_path / "sum.db"), tables(database)
    assert sorted(summed) == sorted(migrated)
    for name, shape in migrated.items():
        assert summed[name] == shape, name


def test_an_applied_migration_is_not_applied_again(database: Path, backups: Path) -> None:
    assert migrate(database, [ONE, TWO], backups=backups) == [ONE, TWO]
    before = data(database)
    assert migrate(database, [ONE, TWO], backups=backups) == []
    assert data(database) == before
    assert not backups.exists()


def test_two_sets_with_the_same_names_do_not_collide(database: Path, backups: Path) -> None:
    assert migrate(database, [ONE, OTHER, SKILL], backups=backups) == [ONE, OTHER, SKILL]
    assert migrate(database, [ONE, TWO, OTHER, SKILL], backups=backups) == [TWO]
    assert {"table one", "table other_one", "table skill_one"} <= set(tables(database))


def test_a_migration_changed_after_it_was_applied_stops_the_start(database: Path, backups: Path) -> None:
    migrate(database, [ONE], backups=backups)
    before = data(database)
    changed = Migration(set_name="core", name="0001_one", sql=ONE.sql + "-- a harmless word\n")
    with pytest.raises(StoreError, match="core/0001_one was changed") as caught:
        migrate(database, [changed, TWO], backups=backups)
    assert caught.value.hint
    assert data(database) == before


def test_an_unknown_applied_migration_stops_the_start(database: Path, backups: Path) -> None:
    migrate(database, [ONE, SKILL], backups=backups)
    before = data(database)
    with pytest.raises(StoreError, match="skill/0001_one, which this version does not know"):
        migrate(database, [ONE, TWO], backups=backups)
    assert data(database) == before


def test_a_backup_is_made_before_a_migration_of_existing_data(database: Path, backups: Path) -> None:
    migrate(database, [ONE], backups=backups)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("INSERT INTO one VALUES ('kept')")
    before = data(database)
    migrate(database, [ONE, TWO], backups=backups)
    (copy,) = backups.iterdir()
    assert data(copy) == before


@pytest.mark.parametrize(
    "broken",
    [
        "ALTER TABLE one ADD COLUMN y TEXT;\nCREATE TABLE one (x TEXT);\n",
        "CREATE TABLE two (x TEXT);\nnonsense;\n",
        "CREATE TABLE two (x TEXT);\nSELECT 'not finished\n",
        "CREATE TABLE two (x TEXT);\nCOMMIT;\nCREATE TABLE three (x TEXT);\n",
        "DELETE FROM one;\nROLLBACK;\n",
        "DELETE FROM one;\nBEGIN;\n",
    ],
    ids=range(6),
)
def test_a_failing_migration_is_named_rolled_back_and_can_be_retried(
    database: Path, backups: Path, broken: str
) -> None:
    migrate(database, [ONE], backups=backups)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("INSERT INTO one VALUES ('kept')")
    before = data(database)
    with pytest.raises(StoreError, match="core/0002_two") as caught:
        migrate(database, [ONE, Migration(set_name="core", name="0002_two", sql=broken)], backups=backups)
    assert caught.value.hint
    assert data(database) == before
    assert migrate(database, [ONE, TWO], backups=backups) == [TWO]


def test_a_first_migration_that_fails_can_be_retried(database: Path, backups: Path) -> None:
    with pytest.raises(StoreError):
        migrate(database, [Migration(set_name="core", name="0001_one", sql="nonsense;")], backups=backups)
    assert migrate(database, [ONE], backups=backups) == [ONE]


def test_a_migration_may_contain_comments_triggers_and_semicolons(database: Path, backups: Path) -> None:
    sql = """-- a comment; with a semicolon
CREATE TABLE one (x TEXT); CREATE TABLE two (x TEXT DEFAULT ';'); -- two in a line
CREATE TRIGGER t AFTER INSERT ON one BEGIN
    INSERT INTO two VALUES (new.x); INSERT INTO two VALUES (';');
END;
INSERT INTO one VALUES ('a;b');
/* the end; really */
"""
    migrate(database, [Migration(set_name="core", name="0001_one", sql=sql)], backups=backups)
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT x FROM two").fetchall() == [("a;b",), (";",)]


def test_a_foreign_database_is_refused_and_left_unchanged(database: Path, backups: Path) -> None:
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = database.read_bytes()
    with pytest.raises(StoreError, match="something else"):
        migrate(database, [ONE], backups=backups)
    assert database.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused_and_left_unchanged(database: Path, backups: Path) -> None:
    database.write_bytes(b"shopping list\n" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        migrate(database, [ONE], backups=backups)
    assert database.read_bytes() == b"shopping list\n" * 1000


# --- reading the files


def write(root: Path, name: str, sql: str = "SELECT 1;") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sql)
    return path


def test_sets_are_read_core_first_and_from_every_folder(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    for root, name in ((own, "aaa/0001_x.sql"), (shipped, "core/0002_b.sql"), (shipped, "core/0001_a.sql")):
        write(root, name)
    write(own, "aaa/README.md")
    found = load_migrations([shipped, own, shipped, tmp_path / "missing"])
    assert [(each.set_name, each.name) for each in found] == [("core", "0001_a"), ("core", "0002_b"), ("aaa", "0001_x")]


def test_the_same_migration_in_two_folders_is_refused(tmp_path: Path) -> None:
    for root in ("one", "two"):
        write(tmp_path / root, "core/0001_a.sql")
    with pytest.raises(StoreError, match="there twice"):
        load_migrations([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    "name",
    ["1_a.sql", "0001.sql", "0001_A.sql", "0001-a.sql", "notes.sql", "20261201_a.sql", "20261301T250000_a.sql"],
)
def test_a_file_name_without_an_order_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"core/{name}")
    with pytest.raises(StoreError, match="not a migration's name"):
        load_migrations([tmp_path])


# --- migrations of different branches


def test_two_branches_with_a_migration_of_the_same_second_both_have_theirs_applied(
    tmp_path: Path, database: Path, backups: Path
) -> None:
    write(tmp_path / "sets", "core/0001_one.sql", ONE.sql)
    write(tmp_path / "sets", "core/20261201T090000_add_colour.sql", "ALTER TABLE one ADD COLUMN colour TEXT;")
    migrate(database, load_migrations([tmp_path / "sets"]), backups=backups)
    write(tmp_path / "sets", "core/20261201T090000_add_age.sql", "ALTER TABLE one ADD COLUMN age INTEGER;")
    [applied] = migrate(database, load_migrations([tmp_path / "sets"]), backups=backups)
    assert applied.name == "20261201T090000_add_age"
    assert columns(database)["one"] == {"x", "colour", "age"}


def test_a_migration_runs_after_the_one_it_names_whatever_their_numbers_and_sets(tmp_path: Path) -> None:
    """Both have the next number, and one needs the table of the other: by their names it would come first."""
    write(tmp_path, "core/0001_people.sql")
    write(tmp_path, "core/0002_add_age.sql", "-- Ages of pets.\n-- after: core/0002_pets, zoo/20260101T000000_cages\n")
    write(tmp_path, "core/0002_pets.sql")
    write(tmp_path, "core/0003_last.sql")
    write(tmp_path, "zoo/20260101T000000_cages.sql")
    found = [f"{each.set_name}/{each.name}" for each in load_migrations([tmp_path])]
    assert found == [
        "core/0001_people",
        "core/0002_pets",
        "zoo/20260101T000000_cages",
        "core/0002_add_age",
        "core/0003_last",
    ]


def test_timestamps_order_migrations_after_numbered_ones(tmp_path: Path) -> None:
    for name in ("20261201T090001_a", "20261201T090000_b", "0032_c"):
        write(tmp_path, f"core/{name}.sql")
    assert [each.name for each in load_migrations([tmp_path])] == ["0032_c", "20261201T090000_b", "20261201T090001_a"]


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ("core/0009_gone", "core/0001_a comes after core/0009_gone, which is not here"),
        ("core/0001_a", "core/0001_a, core/0002_b come after one another"),
        ("core/0002_b", "core/0001_a, core/0002_b come after one another"),
        ("0002_b", "'0002_b', which is no SET/NAME"),
    ],
)
def test_a_migration_order_that_is_impossible_is_refused_by_name(tmp_path: Path, after: str, problem: str) -> None:
    write(tmp_path, "core/0001_a.sql", f"-- after: {after}\n")
    write(tmp_path, "core/0002_b.sql")
    with pytest.raises(StoreError, match=problem) as caught:
        load_migrations([tmp_path])
    assert caught.value.hint


def columns(database: Path) -> dict[str, set[str]]:
    """Each table's columns, in no order."""
    with closing(sqlite3.connect(database)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'index')")]
        return {name: {row[1] for row in db.execute("SELECT * FROM pragma_table_info(?)", (name,))} for name in names}


def other_way_round(migrations: Sequence[Migration]) -> list[Migration]:
    """The same migrations, each as late as its dependents allow, as another branch may have applied them."""
    left, found = list(migrations), list[Migration]()
    while left:
        last = next(one for one in left if not any(one.key in other.dependencies(migrations) for other in left))
        left.remove(last)
        found.insert(0, last)
    return found


def differences(folder: Path, root: Path) -> list[str]:
    """Tables and indexes that depend on an order which no migration declares."""
    found = []
    for number, order in enumerate((load_migrations([root]), other_way_round(load_migrations([root])))):
        migrate(folder / f"{number}.db", order, backups=folder / "backups")
        found.append(columns(folder / f"{number}.db"))
    return [name for name in sorted(found[0].keys() | found[1].keys()) if found[0].get(name) != found[1].get(name)]


def test_shipped_migrations_without_a_declared_order_can_be_applied_in_any(tmp_path: Path) -> None:
    assert differences(tmp_path, CORE) == []


def test_a_table_rebuilt_without_another_migrations_column_is_detected(tmp_path: Path) -> None:
    anew = "CREATE TABLE two (x TEXT); INSERT INTO two SELECT x FROM one; DROP TABLE one; ALTER TABLE two RENAME TO one"
    write(tmp_path / "sets", "core/0001_one.sql", ONE.sql)
    write(tmp_path / "sets", "core/20261201T090000_anew.sql", anew)
    write(tmp_path / "sets", "core/20261201T090001_add.sql", TWO.sql)
    assert differences(tmp_path, tmp_path / "sets") == ["one"]


CORE = shipped_root() / "migrations"

LAST_NUMBERED = "0032_deleted_agents"


def test_a_new_core_migration_is_named_by_its_time() -> None:
    """Another branch would take the same number, too: `date -u +%Y%m%dT%H%M%S` gives a free name."""
    numbered = [each.name for each in load_migrations([CORE]) if not each.name.startswith("2")]
    assert numbered[-1] == LAST_NUMBERED


def test_recorded_migrations_are_unchanged(database: Path, backups: Path, tmp_path: Path) -> None:
    """Golden file: what the build before timestamp names wrote into schema_migrations, in its order."""
    golden = Path(__file__).with_name("recorded_migrations.txt").read_text(encoding="utf-8").split()
    shipped = load_migrations([CORE])
    assert [word for each in shipped[: len(golden) // 2] for word in (each.name, each.checksum)] == golden
    migrate(database, shipped[: len(golden) // 2], backups=backups)
    with closing(sqlite3.connect(database)) as db:
        record = "SELECT * FROM schema_migrations ORDER BY rowid"
        before = db.execute(record).fetchall()
        applied = migrate(database, shipped, backups=backups)
        assert db.execute(record).fetchall()[: len(before)] == before
    assert applied == shipped[len(golden) // 2 :]


def test_the_events_table_is_rebuilt_with_all_its_rows(database: Path, backups: Path) -> None:
    migrations = load_migrations([CORE])
    migrate(database, [m for m in migrations if m.name < "0002"], backups=backups)
    with closing(sqlite3.connect(database)) as db, db:
        db.executescript(
            "INSERT INTO agent_groups VALUES (1, 'a', 'a', NULL, NULL, 'then');"
            "INSERT INTO messaging_groups VALUES (1, 'fake', 'main', 'c', 0, 'c', 'public', 'then');"
            "INSERT INTO wirings VALUES (1, 1, 1, 'pattern', '.', 'shared', 0, 'then');"
            "INSERT INTO inbound_events VALUES (7, 'fake', 'main', 'c', 'p', 'message', 't', 0, 1, 'u', 'Ann', 0, 'c',"
            " 'hello', 'p0', 'then', 'now', 'dropped', 'why');"
            "INSERT INTO routes VALUES (7, 1, 'denied', 'no', NULL, NULL);"
        )
    migrate(database, migrations, backups=backups)
    with closing(sqlite3.connect(database)) as db:
        [row] = db.execute("SELECT * FROM inbound_events").fetchall()
        assert row[:5] == (7, "fake", "main", "c", "p")
        assert row[-9:] == ("now", "dropped", "why", 0, None, "[]", None, "[]", None)
        db.execute("PRAGMA foreign_keys = ON")
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("DELETE FROM inbound_events")


def test_turn_costs_from_before_prices_count_once_after_an_update(database: Path, backups: Path) -> None:
    """As their runners reported: the calls of those turns are recorded too, and are not counted twice."""
    shipped = load_migrations([shipped_root() / "migrations"])
    migrate(database, [one for one in shipped if one.name < "0019"], backups=backups)
    with closing(sqlite3.connect(database)) as db:
        db.executescript(
            "INSERT INTO turn_costs VALUES ('s1', 't1', 'main', '2026-01-02T12:00:00.000Z', 10, 5, 0, 0.5);"
            "INSERT INTO model_calls VALUES (1, 's1', 'm', '2026-01-02T11:59:00.000Z', 9, 200, 10, 5, 0, 0, NULL);"
        )
    migrate(database, shipped, backups=backups)
    with closing(sqlite3.connect(database)) as db:
        told = db.execute(turn_costs.COSTS_SINCE, ("2026-01-01",)).fetchall()
        seen = db.execute(model_calls.TOTALS_SINCE, ("2026-01-01",)).fetchall()
    assert (told, seen) == ([("main", 1, 10, 5, 0, 0.5)], [])


OLD_NAMES = """
INSERT INTO agent_groups (id, folder, name, created_at) VALUES (1, 'main', 'Main', 't');
INSERT INTO sessions (id, agent_group_id, created_at, last_active_at) VALUES ('s1', 1, 't', 't');
INSERT INTO install VALUES (1, 'i1', 't');
INSERT INTO spared_tries VALUES ('s1', 'm1', 2);
INSERT INTO inbound_events (channel_type, instance, platform_id, platform_message_id, event_kind, is_group,
    mentions_bot, sender_handle, sender_name, sender_is_bot, chat_name, text, sent_at, received_at, tries)
VALUES ('fake', 'main', 'c1', 'p1', 'message', 0, 1, 'u', 'Ann', 0, '', 'hello', 't', 't', 3);
INSERT INTO deliveries (session_id, seq, out_id, kind, channel_type, instance, platform_id, content, status, attempts,
    tries_from, next_try_at, created_at, changed_at, card, left_thread)
VALUES ('s1', 1, 'o1', 'card', 'fake', 'main', 'c1', '{}', 'pending', 5, 4, 'later', 't', 't', 'k1', 1);
INSERT INTO sent_keys VALUES ('s1', 1, 'sent as');
INSERT INTO late_failures VALUES ('s1', 1, 'p1', 'no', 'then', 1);
INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, run_asked, misfire, created_by, created_at,
    changed_at, counted)
VALUES ('t1', 's1', 'agent', 'x', 'UTC', 'due', 'asked', 'latest', 'x', 't', 't', 1);
INSERT INTO actions (session_id, seq, out_id, name, arguments, asked_at, status, told, created_at)
VALUES ('s1', 2, 'o2', 'tasks.list', '{}', 'asked', 'done', 1, 't');
INSERT INTO turn_failures VALUES ('s1', 'auth', 'no', 't', 't', 1, 'until', '[["fake", "main", "c1"]]');
INSERT INTO late_messages VALUES ('event 1', 's1', 'fake:main', 'c1', 'failing', 'no', 't', 't', 1);
INSERT INTO forgotten VALUES ('s1', 7);
INSERT INTO approvals (id, kind, subject, shown, options, payload, requested_by, created_at, expires_at, digest)
VALUES ('a1', 'sender', 'x', 'May it?', '[]', '{}', 'x', 't', 't', 'd');
INSERT INTO approval_refusals VALUES ('a1', 'fake:u', 6);
INSERT INTO audit_log VALUES (1, 't', 'who', 'what', 'about', 'local', 'done', '{}');
INSERT INTO paused (only, by, at, cut) VALUES (1, 'who', 'then', '[]');
INSERT INTO holds (session_id, by, at, reason, told) VALUES ('s1', 'who', 'then', 'full', '[1]');
INSERT INTO turn_costs VALUES ('s1', 't1', 'main', 't', 1, 2, 3, 0.5, 8, 9);
CREATE VIEW own_view AS SELECT who, about FROM audit_log;
CREATE VIEW own_totals AS SELECT sum(tries) AS n FROM spared_tries;
"""
"""Rows with a value in all that was renamed, and views of an install."""
STANDARD_NAMES = {
    "SELECT singleton, id FROM install": (1, "i1"),
    "SELECT * FROM uncounted_attempts WHERE attempt = 2": ("s1", "m1", 2),
    "SELECT attempts FROM inbound_events": (3,),
    "SELECT attempts_before_resend, next_attempt_at, card_key, is_detached_from_thread FROM deliveries": (
        4,
        "later",
        "k1",
        1,
    ),
    "SELECT * FROM idempotency_keys": ("s1", 1, "sent as"),
    "SELECT failed_at, notified FROM late_failures": ("then", 1),
    "SELECT run_requested_at, is_relative FROM tasks": ("asked", 1),
    "SELECT requested_at, notified FROM actions": ("asked", 1),
    "SELECT held_until, notified_chats FROM turn_failures": ("until", '[["fake", "main", "c1"]]'),
    "SELECT notified FROM late_messages": (1,),
    "SELECT * FROM retention_watermarks": ("s1", 7),
    "SELECT rendered_text FROM approvals": ("May it?",),
    "SELECT * FROM unauthorized_decisions": ("a1", "fake:u", 6),
    "SELECT actor, action, target FROM audit_log": ("who", "what", "about"),
    "SELECT singleton, created_by, created_at, interrupted_turns FROM paused": (1, "who", "then", "[]"),
    "SELECT created_by, created_at, notified_chats FROM holds": ("who", "then", "[1]"),
    "SELECT gateway_calls, gateway_tokens FROM turn_costs": (8, 9),
    "SELECT * FROM own_view": ("who", "about"),
    "SELECT * FROM own_totals": (2,),
}


def test_renamed_columns_keep_their_values_and_views_of_an_install_follow(database: Path, backups: Path) -> None:
    shipped = load_migrations([CORE])
    before = next(at for at, one in enumerate(shipped) if one.name.endswith("_standard_names"))
    migrate(database, shipped[:before], backups=backups)
    with closing(sqlite3.connect(database)) as db:
        db.executescript(OLD_NAMES)
    migrate(database, shipped, backups=backups)
    with closing(sqlite3.connect(database)) as db:
        assert {sql: db.execute(sql).fetchone() for sql in STANDARD_NAMES} == STANDARD_NAMES
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
