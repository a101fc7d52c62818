#!/usr/bin/env bash
# slack-bolt 1.30.0: the `name` of an App is not only how it is called in its own lines. With each event that it handles,
# the standard library's logger of that name, and so every logger below it, gets the level of the `logger` that the App was
# given. A program that names the App after itself and gives it a quiet logger, because the library's errors hold addresses
# that are secrets, silences its own log by that, warnings and errors included, from the first event on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check slack-bolt==1.30.0

"$folder/venv/bin/python" - <<'END_OF_PROGRAM'
import json
import logging
import sys

from slack_bolt import App, BoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.version import __version__

ours = logging.getLogger("assistant.mail")
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
before = ours.isEnabledFor(logging.ERROR)

quiet = logging.getLogger("somewhere.else")
quiet.setLevel(logging.CRITICAL)
app = App(
    name="assistant",
    logger=quiet,
    signing_secret="0" * 32,
    request_verification_enabled=False,
    process_before_response=True,
    authorize=lambda: AuthorizeResult(enterprise_id=None, team_id="T1", bot_user_id="U2", bot_token="xoxb-0"),
)
app.event("message")(lambda event: None)
event = {"type": "message", "channel": "D1", "user": "U1", "text": "hello", "ts": "1700000000.000100"}
body = {"type": "event_callback", "team_id": "T1", "event": event}
answer = app.dispatch(BoltRequest(body=json.dumps(body), headers={"content-type": ["application/json"]}))
after = ours.isEnabledFor(logging.ERROR)

print("slack-bolt", __version__)
print("an error of assistant.mail is logged before an event is handled:", before)
print("and after it:", after, "; the logger that was set:", logging.getLogger("assistant"))
expected = answer.status == 200 and before and not after
print("as found" if expected else "IT HAS CHANGED")
sys.exit(0 if expected else 1)
END_OF_PROGRAM
