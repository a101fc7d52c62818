"""python -m nanohost is the command nanohost."""

import sys

from nanohost.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
