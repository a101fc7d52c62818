#!/usr/bin/env bash
# croniter 7.0.0 against cronsim 2.8, which follows Debian's cron: the same two lines of a crontab, other times.
#   0 0 */2 * 1    cron: Mondays that are odd days, since a day that begins with * restricts nothing by itself, so that both
#                  fields must match. croniter: every odd day, and every Monday.
#   30 2 * * *     on the night on which summer time ends. cron: once. croniter: twice, an hour apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    croniter==7.0.0 cronsim==2.8 python-dateutil==4.0.0 tzdata==2026.6

"$folder/venv/bin/python" - <<'END'
import sys
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim


def by_croniter(cron: str, after: datetime, count: int) -> list[str]:
    times = croniter(cron, after)
    return [times.get_next(datetime).isoformat(timespec="minutes") for _ in range(count)]


def by_cronsim(cron: str, after: datetime, count: int) -> list[str]:
    return [time.isoformat(timespec="minutes") for time in islice(CronSim(cron, after), count)]


berlin = ZoneInfo("Europe/Berlin")
days = ("0 0 */2 * 1", datetime(2026, 1, 1), 4)
night = ("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=berlin), 2)
expected = {
    (by_croniter, days): ["2026-01-03T00:00", "2026-01-05T00:00", "2026-01-07T00:00", "2026-01-09T00:00"],
    (by_cronsim, days): ["2026-01-05T00:00", "2026-01-19T00:00", "2026-02-09T00:00", "2026-02-23T00:00"],
    (by_croniter, night): ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"],
    (by_cronsim, night): ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
}
print(*(f"{name} {version(name)}" for name in ("croniter", "cronsim")))
changed = False
for (ask, line), times in expected.items():
    found = ask(*line)
    changed |= found != times
    print(f"{line[0]:13} {ask.__name__}: {', '.join(found)}")
print("IT HAS CHANGED" if changed else "as found")
sys.exit(int(changed))
END
