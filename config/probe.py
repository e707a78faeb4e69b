"""Ask a running web process for its health: `python config/probe.py [/readyz]` exits with 0 when the answer is 200."""

import http.client
import os
import sys


def probe_host() -> str:
    """Return a Host header that the web process accepts: the first name of ALLOWED_HOSTS that is one."""
    names = [name.strip() for name in os.environ.get("ALLOWED_HOSTS", "").split(",")]
    return next((name for name in names if name and name[0] not in ".*"), "127.0.0.1")


def probe(path: str, *, port: int, timeout_s: float = 2.0) -> int:
    """Return the HTTP status of a path on this machine's web process; 0 where nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Host": probe_host()})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    sys.exit(0 if probe(asked, port=int(os.environ.get("PORT") or 8000), timeout_s=5.0) == 200 else 1)
