"""What all views share: who may, how often, which parameters, versions as ETags."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, cast

import orjson
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework import mixins, viewsets
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from api.auth import Right
from api.errors import MissingMatchError, StaleError, TooLargeError
from api.filters import SHAPING, Param, fields_read, params_check, params_of
from api.idempotency import idempotent
from api.seen import GLOBAL
from api.throttles import Allowance
from fleet.access import region_limit
from fleet.audit import NAME_MOST, WHY_MOST, Author, author_current, text_is_sound, writing_as
from fleet.services import row_delete
from scenarios.seen import seen

BODY_MAX_BYTE = 2**20
FORM_EXTRA_BYTE = 2**16  # boundaries and names around an uploaded file
SAFE = ("GET", "HEAD", "OPTIONS")
REASON = "X-Change-Reason"
DRY_RUN = OpenApiParameter("dry_run", bool, description="Show what would come of it, and store nothing.")
VERBS = {"POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}


class Door(APIView):
    """Rights, rates and strict parameters of any view."""

    rights: Mapping[str, Right] = {}
    buckets: Mapping[str, str] = {}
    own_params: Mapping[str, tuple[str, ...]] = {}
    body_max_byte = BODY_MAX_BYTE
    too_large_hint = ""
    """What to do with a body that is larger."""
    is_global = False
    """Whether what is written here holds in every region: an account that is limited to some does not write it."""
    allowance: Allowance | None = None

    @property
    def verb(self) -> str:
        """Name of what is done: the action of a view set, else the method in small letters."""
        method = (self.request.method or "").lower()
        return getattr(self, "action", method) or method

    def right(self) -> Right:
        """Return what the request needs; reading needs the scope only."""
        if self.verb in self.rights:
            return self.rights[self.verb]
        model = getattr(getattr(self, "queryset", None), "model", None)
        if self.request.method in SAFE or model is None or getattr(self, "action", "") is None:
            return Right("read")
        verb = VERBS.get(self.request.method or "", "change")
        return Right("write", (f"{model._meta.app_label}.{verb}_{model._meta.model_name}",))

    def bucket(self) -> str:
        """Return the bucket in which the request is counted."""
        return self.buckets.get(self.verb, "read" if self.request.method in SAFE else "write")

    def allowed_params(self) -> Iterable[str]:
        """Return the query parameters that the request may carry."""
        return self.own_params.get(self.verb, ())

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer; what is written meanwhile is logged in the name of who has come in."""
        with ExitStack() as self.signing:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse a body that is too large before anything of it is read, let in who may, look at the parameters."""
        limit_byte, length = self.most_byte(), str(request.META.get("CONTENT_LENGTH") or "0")
        if length.isdigit() and int(length) > limit_byte:
            raise TooLargeError(f"The body is larger than {limit_byte} byte.{self.too_large_hint}")
        super().initial(request, *args, **kwargs)
        params_check(request, self.allowed_params())
        if request.method not in SAFE and request.user.is_authenticated:
            if self.is_global and getattr(self, "action", "") is not None and region_limit(request.user) is not None:
                raise PermissionDenied(GLOBAL, code="region_limited")
            self.signing.enter_context(writing_as(author_read(request)))

    def most_byte(self) -> int:
        """Return how large a body may be."""
        form = any(issubclass(parser, MultiPartParser) for parser in self.parser_classes)
        return settings.TRACE_MAX_BYTE + FORM_EXTRA_BYTE if form else self.body_max_byte

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Show what is left of the rate; answers are private."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if self.allowance is not None:
            for name, value in self.allowance.headers().items():
                response[name] = value
        response.setdefault("Cache-Control", "private, no-cache")
        return response


class ReadResource(Door, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Rows as lists and one by one."""

    filters: Mapping[str, str] = {}
    search: tuple[str, ...] = ()
    lookup_value_regex = "[0-9]{1,18}"
    match_required = False
    conditional = True
    """Whether the version tells all that an answer shows, so that If-None-Match may be answered by 304."""

    @property
    def rows_model(self) -> type[Model]:
        """The model of the rows."""
        view: Any = self
        return view.queryset.model

    def get_queryset(self) -> QuerySet[Any]:
        """Return what the account sees; of all other rows it is as if they were not there."""
        return seen(super().get_queryset(), getattr(self.request, "user", None))

    def params(self) -> dict[str, Param]:
        """Return the filters of the list."""
        return params_of(self.rows_model, tuple(self.filters.items()))

    def orderings(self) -> dict[str, str]:
        """Return the fields that a list may be sorted by, with their paths."""
        plain = {p.name: p.path for p in self.params().values() if not p.suffix and not p.name.endswith("_id")}
        return {"id": "pk", **plain}

    def allowed_params(self) -> Iterable[str]:
        """Return the filters and the common parameters of a list, and what shapes any answer of rows."""
        own = self.own_params.get(self.verb, ())
        if self.verb == "list":
            common = ("limit", "offset", "cursor", "ordering", *SHAPING, *(["q"] if self.search else []))
            return (*self.params(), *common, *own)
        return (*SHAPING, *own) if self.verb == "retrieve" else own

    def get_serializer(self, *args: Any, **kwargs: Any) -> BaseSerializer[Any]:
        """Return the serializer with the fields that the request asks for."""
        serializer = super().get_serializer(*args, **kwargs)
        shaped: Any = getattr(serializer, "child", serializer)
        if self.verb in {"list", "retrieve"} and hasattr(shaped, "only"):
            shaped.only(fields_read(self.request, list(shaped.fields)))
        return serializer

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show one."""
        row = self.get_object()
        serializer = self.get_serializer(row)  # it also refuses fields that are not there
        etag = etag_of(row, shape=shape_of(request))
        if etag and self.conditional and etag_is_named(etag, request.headers.get("If-None-Match", "")):
            return Response(status=304, headers={"ETag": etag})
        return Response(serializer.data, headers={"ETag": etag} if etag else None)


class EditResource(ReadResource):
    """Rows that can be made, edited and deleted under their version."""

    http_method_names = ["get", "head", "post", "patch", "delete"]

    @idempotent()
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make one."""
        return self.make(request)

    def make(self, request: Request) -> Response:
        """Store what a body says, and show it."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        row = serializer.save(**self.made_with())
        data = self.get_serializer(self.reread(row)).data
        return Response(data, status=201, headers={"Location": data["url"], "ETag": etag_of(row)})

    def made_with(self) -> dict[str, Any]:
        """Return values that a new row has beside those of the body."""
        return {}

    def reread(self, row: Any) -> Any:
        """Return the row as it is stored, with its neighbours."""
        queryset: QuerySet[Any] = self.get_queryset()
        return queryset.get(pk=row.pk)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Edit some fields."""
        row = self.get_object()
        self.match_check(row)
        serializer = self.get_serializer(row, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        row = serializer.save()
        return Response(self.get_serializer(self.reread(row)).data, headers={"ETag": etag_of(row)})

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete it; what is used elsewhere stays, 409."""
        row = self.get_object()
        row_delete(row, version=row.version if self.match_check(row) else None)
        return Response(status=204)

    def match_check(self, row: Any) -> bool:
        """Compare If-Match with the row's version; return whether there was one."""
        raw = self.request.headers.get("If-Match")
        if raw is None:
            if self.match_required:
                raise MissingMatchError
            return False
        if not version_is_named(row.version, raw):
            raise StaleError
        return True


def user_of(request: Request) -> User:
    """Return who asks; the rights have made sure that it is somebody."""
    return cast("User", request.user)


def author_read(request: Request) -> Author:
    """Return who writes, by what way it has come in, and why, as `X-Change-Reason` says; UTF-8 is read there too."""
    why = request.headers.get(REASON, "")
    with suppress(UnicodeError):
        why = why.encode("latin-1").decode()
    if len(why) > WHY_MOST or not text_is_sound(why):
        raise ValidationError({REASON: [f"A text of at most {WHY_MOST} characters is needed."]})
    user = user_of(request)
    return replace(author_current(), user_id=user.pk, name=user.get_username()[:NAME_MOST], why=why)


def is_dry_run(request: Request) -> bool:
    """Return whether nothing shall be stored."""
    asked = request.query_params.getlist("dry_run") or ["0"]
    if len(asked) > 1:
        raise ValidationError({"dry_run": ["Give it once."]})
    dry = bool(Param("dry_run", "", "boolean").read(asked[0]))
    if dry and "Idempotency-Key" in request.headers:
        raise ValidationError({"dry_run": ["A dry run makes nothing: send it without an Idempotency-Key."]})
    return dry


def shape_of(request: Request) -> str:
    """Return a short name for what `?fields=` and `?brief=` leave of a row; empty for the whole of it."""
    asked = {name: request.query_params.getlist(name) for name in SHAPING if name in request.query_params}
    return hashlib.sha256(orjson.dumps(asked)).hexdigest()[:12] if asked else ""


def etag_of(row: Any, *, shape: str = "") -> str:
    """Return the ETag of a row with a version, `"3"`, or of a part of it, `"3-shape"`; empty for others."""
    version = getattr(row, "version", None)
    return f'"{version}{"-" if shape else ""}{shape}"' if version is not None else ""


def tags_of(header: str) -> list[str]:
    """Return the ETags of a header; a proxy that compresses marks them as weak, which changes no version."""
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def etag_is_named(etag: str, header: str) -> bool:
    """Return whether If-None-Match names an ETag."""
    return header.strip() == "*" or etag in tags_of(header)


def version_is_named(version: int, header: str) -> bool:
    """Return whether If-Match names a version, by the ETag of the whole row or of any part of it."""
    tags = tags_of(header)
    return header.strip() == "*" or any(tag == f'"{version}"' or tag.startswith(f'"{version}-') for tag in tags)
