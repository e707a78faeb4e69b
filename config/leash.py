"""Become a command that the kernel ends when its parent dies: `python leash.py PARENT_PID COMMAND ...`.

A supervisor that is killed with -9 cannot end its children. Linux can (PR_SET_PDEATHSIG survives the exec); elsewhere
the next start ends what an earlier one left. Runs with the standard library alone, to start in a few milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put on the leash and exec."""
    parent_pid, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before the leash was on
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's own


if __name__ == "__main__":
    main()
