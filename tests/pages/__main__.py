"""Write the generated parts of docs/: `make docs`."""

from __future__ import annotations

import os
import sys

from nanohost.logs import configure_logging
from tests.pages import all_blocks


def main() -> int:
    configure_logging(os.environ, log_format="quiet")
    for block in all_blocks():
        block.write()
        sys.stdout.write(f"{block}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
