"""Run a program that ends when its parent does: `python -m atlas.tethered PARENT PROGRAM ARGS…`.

For programs that are not ours, such as nats-server; our own services look after it themselves
(`Settings.parent_pid`). Linux only: elsewhere the program runs untethered.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); kept across execve(2)


def main() -> None:
    """Become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the line above
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - the program is the point


if __name__ == "__main__":
    main()
