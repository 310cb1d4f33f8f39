"""The command line in a process that ends with the one that started it: `python -m backend.execution.attended COMMAND ...`.

`worker` watches its standard input itself, and writes a checkpoint before it goes. Other commands end at once, with all they started.
"""

from __future__ import annotations

import signal
import sys

from .. import attached, cli


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if argv[:1] != ["worker"]:
        attached.end_with_standard_input()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent asks by it, even where it was itself started to ignore it
    return cli.main(argv, inside=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
