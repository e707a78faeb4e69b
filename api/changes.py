"""The change log over HTTP: who wrote what, when and why, and taking it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from api.auth import Right
from api.errors import ConflictError
from api.filters import PAGE, Param, Within
from api.idempotency import idempotent
from api.resources import ReadResource, user_of
from api.serializers import COMMON, RowSerializer
from fleet.access import change_sets_seen, changes_seen
from fleet.audit import author_current
from fleet.inventory import BY_KIND
from fleet.models import Change, ChangeSet
from fleet.services import UndoConflictError, UndoPlaceError, change_set_undo

CHANGES_SHOWN = 100  # of a set alone; all are under rows/
CHANGES_LISTED = 10  # of each set of a list
VERBS = ("add", "change", "delete")


class ChangeSerializer(serializers.ModelSerializer[Change]):
    """One row written."""

    position = serializers.IntegerField(read_only=True, help_text="Order in its set. [-]")
    url = serializers.SerializerMethodField(help_text="Of the row; nothing is there once it is deleted.")
    before = serializers.JSONField(read_only=True, help_text="Values by column; of an edit those that differ.")
    after = serializers.JSONField(read_only=True, help_text="The same, as written; null: it was deleted.")

    class Meta:
        model = Change
        fields = ["position", "kind", "object_id", "url", "label", "action", "before", "after"]

    @extend_schema_field({"type": ["string", "null"], "format": "uri"})
    def get_url(self, change: Change) -> str | None:
        """Return the address of the row."""
        if change.kind not in BY_KIND:
            return None
        name = f"api:{change.kind}-detail"
        return str(reverse(name, kwargs={"pk": change.object_id}, request=self.context.get("request")))


class ChangeSetSerializer(RowSerializer):
    """The writes of one transaction."""

    actor = serializers.CharField(source="actor_name", read_only=True, help_text="Account or command, as it was then.")
    undo_of = serializers.SerializerMethodField(help_text="Number of the set that it took back.")
    rows = serializers.SerializerMethodField(help_text="Rows written that you may see. [-]")
    changes = serializers.SerializerMethodField(
        help_text=f"The first {CHANGES_SHOWN} of them; in lists {CHANGES_LISTED}."
    )

    class Meta:
        model = ChangeSet
        fields = [
            *(*COMMON, "number", "at", "actor", "why", "request_id", "undo_of", "rows", "changes"),
            *("previous_hash", "hash"),
        ]
        read_only_fields = fields

    def get_undo_of(self, row: ChangeSet) -> int | None:
        """Return the number of the set that it took back."""
        return row.undo_of.number if row.undo_of else None

    def get_rows(self, row: Any) -> int:
        """Return how many rows it wrote, of those that the account sees."""
        return int(row.rows_seen)

    @extend_schema_field(ChangeSerializer(many=True))
    def get_changes(self, row: Any) -> Any:
        """Return the first changes."""
        return ChangeSerializer(row.changes_shown, many=True, context=self.context).data


class HistorySerializer(ChangeSerializer):
    """One write of a row, and the set that it was a part of."""

    change_set = serializers.SerializerMethodField(help_text="Address of the set.")
    number = serializers.IntegerField(source="change_set.number", help_text="Of the set.")
    at = serializers.DateTimeField(source="change_set.at")
    actor = serializers.CharField(source="change_set.actor_name", help_text="Account or command, as it was then.")
    why = serializers.CharField(source="change_set.why")
    request_id = serializers.CharField(source="change_set.request_id")

    class Meta(ChangeSerializer.Meta):
        fields = ["change_set", "number", "at", "actor", "why", "request_id", *ChangeSerializer.Meta.fields]
        read_only_fields = fields

    @extend_schema_field({"type": "string", "format": "uri"})
    def get_change_set(self, change: Change) -> str:
        """Return the address of the set."""
        pk = change.change_set_id
        return str(reverse("api:changeset-detail", kwargs={"pk": pk}, request=self.context.get("request")))


@dataclass(frozen=True, slots=True)
class RowParam(Param):
    """A parameter about the rows of a set: all that are given must be true of one row."""

    def condition(self, raws: Sequence[str], within: Within | None = None) -> Q:
        """Read it, and leave the rest to the view."""
        self.wanted(raws)
        return Q()

    def wanted(self, raws: Sequence[str]) -> Q:
        """Return what a row must be."""
        return Q(**{f"{self.path}__in": [self.read(raw) for raw in raws]})


ROW_PARAMS = {
    "kind": RowParam("kind", "kind", "text", "row", choices=tuple(BY_KIND)),
    "object": RowParam("object", "object_id", "integer", "row"),
}


class ChangeSetView(ReadResource):
    """Change sets, newest first: what was written together, by whom and why."""

    queryset = ChangeSet.objects.all()
    serializer_class = ChangeSetSerializer
    filters = {"number": "number", "at": "at", "actor": "actor_name", "request_id": "request_id"}
    search = ("why", "actor_name")
    rights = {"undo": Right("write")}  # and what its rows need
    own_params = {"rows": ("limit", "offset")}

    def get_queryset(self) -> QuerySet[Any]:
        """Return the sets in which the account sees a row, with how many and the first of them."""
        user: Any = getattr(self.request, "user", None)
        most = CHANGES_LISTED if self.verb == "list" else CHANGES_SHOWN
        shown = Prefetch("changes", changes_seen(user).order_by("position")[:most], to_attr="changes_shown")
        return change_sets_seen(user).select_related("undo_of").prefetch_related(shown)

    def params(self) -> dict[str, Param]:
        """Return the filters of sets and of their rows."""
        return {**super().params(), **ROW_PARAMS}

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the sets with a row that is all that was asked for."""
        queryset, query = super().filter_queryset(queryset), self.request.query_params
        asked = [param.wanted(query.getlist(name)) for name, param in ROW_PARAMS.items() if name in query]
        if not asked or self.verb != "list":
            return queryset
        user: Any = self.request.user
        return queryset.filter(Exists(changes_seen(user).filter(*asked, change_set=OuterRef("pk"))))

    @extend_schema(parameters=list(PAGE), responses={200: ChangeSerializer(many=True)})
    @action(detail=True, filter_backends=[])
    def rows(self, request: Request, pk: str) -> Response:
        """Show all rows that a set wrote, in their order."""
        user: Any = request.user
        found = changes_seen(user).filter(change_set=self.get_object()).order_by("position")
        page = self.paginate_queryset(found)
        return self.get_paginated_response(
            ChangeSerializer(page, many=True, context=self.get_serializer_context()).data
        )

    @extend_schema(
        request=None,
        responses={
            201: OpenApiResponse(ChangeSetSerializer, "The set that took it back."),
            409: OpenApiResponse(description="One of its rows was written since."),
        },
    )
    @action(detail=True, methods=["post"], filter_backends=[], pagination_class=None)
    @idempotent()
    def undo(self, request: Request, pk: str) -> Response:
        """Write the opposite of a set, as a set of its own; all or none."""
        found, user = self.get_object(), user_of(request)
        kinds = found.changes.order_by().values_list("kind", flat=True).distinct()
        needed = [f"fleet.{verb}_{kind}" for kind in sorted(kinds) for verb in VERBS]
        lacking = [name for name in needed if not user.has_perm(name)]
        if lacking:
            raise PermissionDenied(f"You lack the permission {lacking[0]}.", code="permission_missing")
        if found.rows_seen != found.rows:
            raise PermissionDenied("It wrote rows that your account does not see.", code="region_limited")
        try:
            made: Any = change_set_undo(found, why=author_current().why, user=user)
        except UndoPlaceError as error:
            raise PermissionDenied(str(error), code="region_limited") from error
        except UndoConflictError as error:
            raise ConflictError(f"Nothing was taken back: {error}") from error
        written = changes_seen(user).filter(change_set=made)
        made.rows_seen, made.changes_shown = written.count(), written.order_by("position")[:CHANGES_SHOWN]
        data = self.get_serializer(made).data
        return Response(data, status=201, headers={"Location": data["url"]})
