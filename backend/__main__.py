"""`python3 -m backend COMMAND`: needs Python 3.11 and nothing else; commands that need more set up their own environment first."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said before anything is imported that an older Python could not read
    sys.exit(
        "error: CoGrad3D needs Python 3.11, 3.12 or 3.13, and this is Python {}.{}.\n"
        "  Install one of those and run it by its name, for example: python3.11 -m backend".format(*sys.version_info)
    )

from backend.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
