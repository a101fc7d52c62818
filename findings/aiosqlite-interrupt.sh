#!/usr/bin/env bash
# aiosqlite 0.22.1: Connection.interrupt() says that it interrupts pending queries. One that waits for its turn in the
# connection's thread is pending, and runs to its end all the same; what is interrupted is the query before it, whoever
# asked for that. So a caller who gives up its own query and interrupts ends a stranger's, and pays for its own in full.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check aiosqlite==0.22.1

"$folder/venv/bin/python" - <<'END'
import asyncio
import sqlite3
import sys
import threading

import aiosqlite

ROWS = 2_000_000
COUNT = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT count(*) FROM n"
FIRST = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT hold(i) FROM n"


async def main() -> list[object]:
    began, go_on = threading.Event(), threading.Event()

    def hold(number: int) -> int:
        began.set()
        go_on.wait()
        return number

    async with aiosqlite.connect(":memory:") as db:
        await db.create_function("hold", 1, hold)
        first = asyncio.create_task(db.execute_fetchall(FIRST))
        await asyncio.to_thread(began.wait)
        second = asyncio.create_task(db.execute_fetchall(COUNT))
        await asyncio.sleep(0)  # it is in the thread's queue now
        await db.interrupt()  # meant for the second
        go_on.set()
        return await asyncio.gather(first, second, return_exceptions=True)


first, second = asyncio.run(main())
print("aiosqlite", aiosqlite.__version__, "SQLite", sqlite3.sqlite_version)
print("the query that ran and was wanted:", repr(first))
print("the query that was pending and interrupted:", repr(second))
expected = isinstance(first, sqlite3.OperationalError) and second == [(ROWS,)]
print("as found" if expected else "IT HAS CHANGED")
sys.exit(0 if expected else 1)
END
