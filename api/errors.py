"""Everything that can go wrong, as application/problem+json (RFC 9457)."""

import http
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
from django.core import exceptions as django_errors
from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.http import Http404
from django.http.multipartparser import MultiPartParserError
from django.http.request import RawPostDataException, UnreadablePostError
from kombu.exceptions import OperationalError as BrokerError
from rest_framework import exceptions
from rest_framework.response import Response

from accelerator import AcceleratorError, TraceError
from fleet.files import FileError
from fleet.services import RowError, RowsWriteError, StaleVersionError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class BodyError(exceptions.ParseError):
    """A body that cannot be read, with the place."""

    def __init__(self, detail: str, *, line: int | None = None, column: int | None = None) -> None:
        super().__init__(detail)
        self.line, self.column = line, column


class RowsError(exceptions.ValidationError):
    """Rows of which none can be used: a place and a reason for each."""

    def __init__(self, places: Sequence[Mapping[str, Any]]) -> None:
        super().__init__({"": [str(place["message"]) for place in places]})
        self.places = [dict(place) for place in places]


class ConflictError(exceptions.APIException):
    """The request does not go with the state of the object."""

    status_code, default_code = 409, "conflict"


class StaleError(exceptions.APIException):
    """If-Match names a version that is not the present one."""

    status_code, default_code = 412, "stale_version"
    default_detail = "Somebody has edited it since: read it again, then send your edit with the new ETag."


class RowsStaleError(StaleError):
    """Some of many rows were edited since they were read."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        super().__init__()
        self.places = [place_of(one) for one in errors]


class RowsProtectedError(ConflictError):
    """Some of many rows cannot be deleted."""

    default_code = "protected"

    def __init__(self, errors: Sequence[RowError]) -> None:
        super().__init__("; ".join(dict.fromkeys(one.message for one in errors[:5])))
        self.places = [place_of(one) for one in errors]


class MissingMatchError(exceptions.APIException):
    """An edit without If-Match of something that needs it."""

    status_code, default_code = 428, "if_match_required"
    default_detail = "Send If-Match with the ETag that you have read."


class TooLargeError(exceptions.APIException):
    """A body over the limit."""

    status_code, default_code = 413, "too_large"
    default_detail = "The body is larger than this server takes."


class KeyReusedError(exceptions.APIException):
    """One Idempotency-Key for two different requests."""

    status_code, default_code = 422, "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used for another request: send a new one."


class KeyBusyError(exceptions.APIException):
    """The first request with this Idempotency-Key has no answer yet."""

    status_code, default_code = 409, "idempotency_key_busy"
    default_detail = "The first request with this Idempotency-Key is still being answered: ask again."
    wait = 1


class UnavailableError(exceptions.APIException):
    """A part that the answer needs does not answer."""

    status_code, default_code = 503, "unavailable"
    wait = RETRY_AFTER_S


def problem_handle(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return any exception of a view as a problem; what nobody foresaw is logged and answered as 500."""
    known = _known(error)
    if known is None:
        request = context.get("request")
        logger.error("%s %s failed", getattr(request, "method", ""), getattr(request, "path", ""), exc_info=error)
        known = exceptions.APIException("An internal error. It has been logged.", code="internal_error")
    headers = {}
    if getattr(known, "auth_header", None):
        headers["WWW-Authenticate"] = known.auth_header  # type: ignore[attr-defined]
    wait = getattr(known, "wait", None)
    if wait is not None:
        headers["Retry-After"] = str(max(1, int(-(-wait // 1))))
    body = problem(known, instance=context["request"].get_full_path() if context.get("request") else "")
    return Response(body, status=known.status_code, headers=headers, content_type=MEDIA_TYPE)


def problem(error: exceptions.APIException, *, instance: str) -> dict[str, Any]:
    """Return the body of a problem."""
    places = _places(error)
    if isinstance(error, exceptions.ValidationError):
        detail = "; ".join(f"{p['field']}: {p['message']}" if p.get("field") else p["message"] for p in places[:5])
        code = "invalid"
    else:
        detail, code = str(error.detail), str(getattr(error.detail, "code", None) or error.default_code)
    return {
        "type": "about:blank",
        "title": http.HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": detail,
        "instance": instance,
        "code": code,
        "errors": places,
    }


def _known(error: Exception) -> exceptions.APIException | None:  # noqa: PLR0911, PLR0912 -- a table, read from above
    match error:
        case exceptions.APIException():
            return error
        case Http404():
            return exceptions.NotFound(str(error) or None)
        case django_errors.PermissionDenied():
            return exceptions.PermissionDenied(str(error) or None)
        case django_errors.ValidationError():
            return exceptions.ValidationError(_as_dict(error))
        case TraceError() | FileError():
            return _file_error(error)
        case AcceleratorError():
            return exceptions.ValidationError({"": [str(error)]})
        case StaleVersionError():
            return StaleError()
        case RowsWriteError():
            return RowsStaleError(error.errors) if error.stale else RowsError([place_of(one) for one in error.errors])
        case ProtectedError():
            names = ", ".join(sorted({str(row._meta.verbose_name_plural) for row in error.protected_objects}))
            return ConflictError(f"It is used by {names}: delete those first.", code="protected")
        case IntegrityError():
            return ConflictError("The data base refused it: it goes against a row that is there already.")
        case django_errors.RequestDataTooBig():
            return TooLargeError()
        case django_errors.SuspiciousOperation() | MultiPartParserError() | UnreadablePostError():
            return exceptions.ParseError(str(error) or None)
        case RawPostDataException():
            return exceptions.ParseError("The body could not be read.")
        case OperationalError() | InterfaceError():
            return _unavailable("The data base", error)
        case BrokerError() | redis.RedisError():
            return _unavailable("The broker", error)
    return None


def _unavailable(part: str, error: Exception) -> UnavailableError:
    logger.warning("%s does not answer: %s", part.lower(), error)
    return UnavailableError(f"{part} does not answer at the moment: ask again in {RETRY_AFTER_S} s.")


def _file_error(error: TraceError | FileError) -> exceptions.ValidationError:
    known = exceptions.ValidationError({"file": [str(error)]})
    known.place = {"line": error.line, "column": error.column}  # type: ignore[attr-defined]
    return known


def _as_dict(error: django_errors.ValidationError) -> dict[str, list[str]]:
    if hasattr(error, "error_dict"):
        return {"" if field == "__all__" else field: list(texts) for field, texts in error.message_dict.items()}
    return {"": list(error.messages)}


def place_of(error: RowError) -> dict[str, Any]:
    """Return what is wrong with one of many rows as a problem lists it."""
    return {"field": error.field or None, "index": error.index, "message": error.message}


def _places(error: exceptions.APIException) -> list[dict[str, Any]]:
    if isinstance(error, BodyError):
        return [{"field": None, "line": error.line, "column": error.column, "message": str(error.detail)}]
    if isinstance(error, RowsError | RowsStaleError | RowsProtectedError):
        return error.places
    if not isinstance(error, exceptions.ValidationError):
        return []
    place = {key: value for key, value in getattr(error, "place", {}).items() if value is not None}
    return [
        {"field": field or None, **({"index": index} if index is not None else {}), **place, "message": message}
        for field, index, message in _flat(error.detail)
    ]


def _flat(detail: Any, field: str = "", index: int | None = None) -> Iterator[tuple[str, int | None, str]]:
    """Yield field, index in a list and message of nested details; a field inside a field is named by dots."""
    if isinstance(detail, Mapping):
        for key, value in detail.items():
            if isinstance(key, int):
                yield from _flat(value, field, key)
                continue
            name = "" if key in {"", "non_field_errors"} else str(key)
            yield from _flat(value, ".".join(filter(None, (field, name))), index)
    elif isinstance(detail, list | tuple):
        for at, value in enumerate(detail):
            yield from _flat(value, field, at if isinstance(value, Mapping) and value else index)
    else:
        yield field, index, str(detail)
