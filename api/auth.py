"""Who is asking, and whether they may: bearer tokens and sessions, scopes and permissions."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from api.models import Token
from api.throttles import attempt_refuse
from api.tokens import token_find


@dataclass(frozen=True, slots=True)
class Right:
    """What an action needs: a scope of the token, and model permissions of the user."""

    scope: str
    permissions: tuple[str, ...] = ()


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <secret>`."""

    def authenticate(self, request: Request) -> tuple[User, Token] | None:
        """Return user and token; None without a bearer header; AuthenticationFailed for one that opens nothing."""
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        token = None
        if len(words) == 2:
            attempt_refuse(request)
            token = token_find(words[1].decode("latin-1"))
        if token is None:
            attempt_refuse(request, failed=True)
            raise exceptions.AuthenticationFailed("The token is unknown, expired or revoked.", code="invalid_token")
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme: this makes 401 of a missing identity, not 403."""
        return 'Bearer realm="api"'


class BearerScheme(OpenApiAuthenticationExtension):
    """How the schema names it."""

    target_class = "api.auth.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "Secret of a token, from `POST /api/v1/tokens/`."}


class ScopedRights(BasePermission):
    """A signed-in user; a token needs the scope of the action, and writing needs the user's permission too."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Say whether the action may go on; a refusal names what is missing."""
        if not request.user.is_authenticated:
            return False
        right: Right = view.right()
        if isinstance(request.auth, Token) and right.scope not in request.auth.scopes:
            raise exceptions.PermissionDenied(f"The token lacks the scope {right.scope}.", code="scope_missing")
        lacking = [name for name in right.permissions if not request.user.has_perm(name)]
        if lacking:
            raise exceptions.PermissionDenied(f"You lack the permission {lacking[0]}.", code="permission_missing")
        return True
