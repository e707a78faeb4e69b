"""Who writes, for pages, administration and API alike: every write of a request is logged with its account and id."""

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from fleet.audit import NAME_MOST, Author, writing_as

HEADER = "X-Request-Id"
WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,64}")
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class AuthorshipMiddleware:
    """Gives each request an id, the client's own if it is well-formed, and answers with it.

    The account is that of the session. One that signs in by a token is known later: the API names it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, with whatever is written meanwhile in the name of who asks."""
        asked = request.headers.get(HEADER, "")
        request_id = asked if WELL_FORMED.fullmatch(asked) else uuid.uuid4().hex
        with writing_as(author_of(request, request_id)):
            response = self.get_response(request)
        response[HEADER] = request_id
        return response


def author_of(request: HttpRequest, request_id: str) -> Author:
    """Return who writes in a request. A request that only reads is not asked for its session."""
    if request.method in SAFE or not request.user.is_authenticated:
        return Author(request_id=request_id)
    return Author(user_id=request.user.pk, name=request.user.get_username()[:NAME_MOST], request_id=request_id)
