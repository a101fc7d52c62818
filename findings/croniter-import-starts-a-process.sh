#!/usr/bin/env bash
# croniter 7.0.0: importing it starts a process. It asks platform.architecture() whether it is on a 32-bit machine, and
# that runs `file -b` on the interpreter wherever that program is installed. A sandbox that lets no process start sees an
# import fail to do so, and each start of a program that plans by cron pays for one.
set -euo pipefail
command -v file >/dev/null || { echo "the program file is not installed here: nothing to see"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check croniter==7.0.0

"$folder/venv/bin/python" - <<'END_OF_PROGRAM'
import sys
from importlib.metadata import version

started = []
sys.addaudithook(lambda event, args: started.append(args[1][:2]) if event == "subprocess.Popen" else None)
import croniter  # noqa: E402, F401

print(f"croniter {version('croniter')}, Python {sys.version.split()[0]}: started by the import: {started}")
sys.exit(started != [["file", "-b"]])
END_OF_PROGRAM
