"""Bytes to values and back: JSON by orjson, strict on the way in, RFC 3339 and no NaN on the way out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from api.errors import BodyError


class OrjsonRenderer(JSONRenderer):
    """JSON in UTF-8; times in UTC with Z, a float that is not a number becomes null."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """Return the body; nothing for an answer without one."""
        if data is None:
            return b""
        return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    return str(value)


class OrjsonParser(JSONParser):
    """JSON with the place of the first fault. Refuses NaN, numbers beyond a double, lone surrogates, deep nesting."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """Return the values of a body."""
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise BodyError(f"the body is not JSON: {error}", line=error.lineno, column=error.colno) from error


class OneRenderer(BaseContentNegotiation):
    """Answers in the view's own format, whatever the client would like best: there is only one."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """Return the parser of the body's media type."""
        wanted = (request.content_type or "").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == wanted), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer."""
        first = next(iter(renderers))
        return first, str(first.media_type)
