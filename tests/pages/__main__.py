"""Write the parts of docs/ that are made of what the tests see: `make docs`."""

from __future__ import annotations

import os
import sys

from nanohost.logs import set_up_logs
from tests.pages import blocks


def main() -> int:
    set_up_logs(os.environ, form="quiet")
    for block in blocks():
        block.write()
        sys.stdout.write(f"{block}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
