"""What the commands that ask a worker share: exit codes, whether there is one, and waiting for the answer."""

import sys
import time
from collections.abc import Callable

from django.core.management.base import CommandError, OutputWrapper

from scenarios.services import worker_is_reachable

BAD_INPUT, NO_WORKER, RUN_FAILED = 2, 3, 4
POLL_S = 0.2


def worker_need() -> None:
    """Raise CommandError if no worker would take what is asked."""
    missing = worker_is_reachable()
    if missing:
        raise CommandError(missing, returncode=NO_WORKER)


def wait(look: Callable[[], tuple[bool, str]], stderr: OutputWrapper) -> None:
    """Look until there is an answer; on a terminal show meanwhile how far it is."""
    shown = ""
    while True:
        has_ended, line = look()
        if has_ended:
            break
        if sys.stderr.isatty() and line != shown:
            stderr.write(f"\r\033[K{line}", ending="")
            shown = line
        time.sleep(POLL_S)
    if shown:
        stderr.write("\r\033[K", ending="")
