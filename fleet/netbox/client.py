"""NetBox's REST API, list by list: one host, verified TLS, a token that goes nowhere else, patience with a limit."""

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import orjson

PAGE_ROWS = 500
ANSWER_BYTE = 64 * 2**20
"""Largest answer that is read. [byte]"""
TIMEOUT_S = 60
TRIES = 6
PAUSE_MOST_S = 120
RETRIED = frozenset({429, 502, 503, 504})
DETAIL_MOST = 200


class NetBoxError(Exception):
    """NetBox did not answer as it should; the text names address and reason."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(_printable(f"{url}: {reason}"))


class _SameHost(HTTPRedirectHandler):
    """Follow a redirect only to where the request was meant for: its headers hold the token."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if not _is_at(req.full_url, newurl):
            raise NetBoxError(req.full_url, f"redirects to another host: {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


@dataclass(frozen=True)
class NetBoxClient:
    """A NetBox at an address, as it shows itself to the owner of a token.

    Raises NetBoxError where the address would send the token in clear: http is for this machine alone.
    """

    url: str
    token: str
    sleep: Callable[[float], None] = time.sleep
    page_rows: int = PAGE_ROWS
    answer_byte: int = ANSWER_BYTE

    def __post_init__(self) -> None:
        """Look at address and token."""
        try:
            _origin(self.url)
        except ValueError as error:
            raise NetBoxError(self.url, f"the address cannot be read: {error}") from error
        parts = urlsplit(self.url)
        if (
            not _is_plain(self.url)
            or parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.username
            or parts.query
        ):
            raise NetBoxError(self.url, "an address as https://netbox.example/ is needed")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise NetBoxError(self.url, "the token would be sent in clear: use https")
        if not self.token or not self.token.isascii() or not self.token.isprintable():
            raise NetBoxError(self.url, "the token is empty, or holds what no token does")

    def objects(self, name: str, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield all objects of a list of `dcim`. Raises NetBoxError, also when they are fewer or more than promised."""
        start = urljoin(f"{self.url.rstrip('/')}/", f"api/dcim/{name}/")
        query = {"limit": str(self.page_rows), "ordering": "id", **filters}
        url: str | None = f"{start}?{urlencode(query)}"
        seen: set[str] = set()
        promised, read = None, 0
        while url is not None:
            seen.add(url)
            page = self._page(url)
            promised = page["count"] if promised is None else promised
            read += len(page["results"])
            following = page["next"]
            if read > promised or (following is None and read < promised):
                raise NetBoxError(
                    start, f"{promised:,} objects promised and {read:,} read: the list has changed; run again"
                )
            yield from page["results"]
            if following is not None and (not _is_at(start, following) or following in seen):
                raise NetBoxError(url, f"its next page is elsewhere: {following}")
            if following is not None and not page["results"]:
                raise NetBoxError(url, "the page is empty, and yet there is a next one")
            url = following

    def _page(self, url: str) -> Mapping[str, Any]:
        try:
            page = orjson.loads(self._answer(url))
        except orjson.JSONDecodeError as error:
            raise NetBoxError(url, "the answer is no JSON: is this the address of a NetBox?") from error
        if not isinstance(page, dict) or not (
            isinstance(page.get("count"), int)
            and isinstance(page.get("next"), str | None)
            and isinstance(page.get("results"), list)
            and all(isinstance(one, dict) for one in page["results"])
        ):
            raise NetBoxError(url, "the answer is no list of NetBox")
        return page

    def _answer(self, url: str) -> bytes:
        """Return an answer; ask again, later and later, where that may help."""
        for attempt in range(1, TRIES + 1):
            try:
                return self._ask(url)
            except HTTPError as error:
                with error:
                    if error.code not in RETRIED or attempt == TRIES:
                        raise NetBoxError(url, _told(error)) from error
                    pause_s = _pause_s(error.headers.get("Retry-After"), attempt)
            except (URLError, http.client.HTTPException, OSError) as error:
                if attempt == TRIES:
                    raise NetBoxError(url, f"no answer: {getattr(error, 'reason', error)}") from error
                pause_s = _pause_s(None, attempt)
            except ValueError as error:  # of the address of a redirect
                raise NetBoxError(url, f"leads to what is no address: {error}") from error
            self.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _ask(self, url: str) -> bytes:
        scheme = "Bearer" if self.token.startswith("nbt_") else "Token"
        headers = {"Authorization": f"{scheme} {self.token}", "Accept": "application/json"}
        request = Request(url, headers=headers)  # noqa: S310 -- http or https: the address is looked at above
        with build_opener(_SameHost).open(request, timeout=TIMEOUT_S) as answer:
            body: bytes = answer.read(self.answer_byte + 1)
        if len(body) > self.answer_byte:
            raise NetBoxError(url, f"an answer of more than {self.answer_byte:,} bytes")
        return body


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _is_at(url: str, other: str) -> bool:
    """Whether another address is one of the same host, and can be asked."""
    try:
        return _is_plain(other) and _origin(other) == _origin(url)
    except ValueError:  # no port, or half a bracket
        return False


def _is_plain(url: str) -> bool:
    """Whether an address is as it goes over the wire: nothing in it but signs of ASCII."""
    return url.isascii() and url.isprintable() and " " not in url


def _printable(text: str) -> str:
    """Return a text of which a terminal shows all and obeys nothing."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _told(error: HTTPError) -> str:
    """Return status and reason as NetBox gives them."""
    try:
        detail = orjson.loads(error.read(2**16))
        detail = detail.get("detail", detail) if isinstance(detail, dict) else detail
    except (ValueError, http.client.HTTPException, OSError):  # no JSON, or only half an answer
        detail = error.reason
    return f"{error.code}: {str(detail)[:DETAIL_MOST]}"


def _pause_s(retry_after: str | None, attempt: int) -> float:
    """Return how long to wait: as asked for, in seconds or until a moment, but never for very long."""
    asked_s = 2.0 ** (attempt - 1)
    if retry_after and retry_after.isdecimal():
        asked_s = float(retry_after)
    elif retry_after:
        with suppress(ValueError, TypeError, OverflowError):
            asked_s = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    return min(max(asked_s, 0.0), PAUSE_MOST_S)
