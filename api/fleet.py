"""Every kind of row of the fleet as a resource: view and serializer follow from its entry in the inventory."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db.models import CharField, DateField, DecimalField, ForeignKey, QuerySet
from django.utils.functional import lazy
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueTogetherValidator, UniqueValidator

from api.bulk import RowsReader, import_hint, rows_edit, rows_end, rows_make, rows_read
from api.changes import HistorySerializer
from api.errors import StaleError
from api.filters import PAGE, DayParam, Param, params_of
from api.idempotency import idempotent
from api.resources import EditResource, is_dry_run, user_of
from api.schema import RowsSchema
from api.seen import region_paths, related_paths, write_check
from api.serializers import COMMON, KEPT, BriefField, RowSerializer
from fleet.access import changes_seen, may_be_hidden, region_limit
from fleet.inventory import BY_KIND, INVENTORY, Entry, key_paths
from fleet.models import Hall, Host, Rack, Region, Row, Site
from fleet.services import RowsWriteError

PLACES = {Region: "region", Site: "site", Hall: "hall", Row: "row", Rack: "rack"}
MORE_FILTERS: Mapping[type, Mapping[str, str]] = {Host: {"chip": "host_type__chip"}}
BULK_MAX_BYTE = 2**22
DAYS = (("in_service_on", "out_of_service_on"), ("starts_on", "ends_on"))  # first day, first day gone


class MoneyField(serializers.DecimalField):
    """An amount as a decimal string: no amount goes through a binary fraction."""

    default_error_messages = {"not_text": "A decimal number in quotes is needed, such as '1250.00'."}

    def to_internal_value(self, data: Any) -> Any:
        """Read it."""
        if not isinstance(data, str):
            self.fail("not_text")
        return super().to_internal_value(data)


class EntrySerializer(RowSerializer):
    """A row of the fleet. What is unique, the service that saves it sees."""

    serializer_field_mapping = {**RowSerializer.serializer_field_mapping, DecimalField: MoneyField}

    def get_validators(self) -> list[Any]:
        """Leave to the service what needs to look at other rows."""
        return [one for one in super().get_validators() if not isinstance(one, UniqueTogetherValidator)]

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        """Leave to the service what needs to look at other rows."""
        kind, options = super().build_standard_field(field_name, model_field)
        if "validators" in options:
            options["validators"] = [one for one in options["validators"] if not isinstance(one, UniqueValidator)]
        return kind, options

    def changed(self) -> Any:
        """Return the row as the body wants it, not stored yet; the account may write it, before and after the edit."""
        user = self.context["request"].user
        row = self.instance or self.Meta.model()  # type: ignore[misc]
        if self.instance:
            write_check(row, user)
        for name, value in self.validated_data.items():
            setattr(row, name, value)
        write_check(row, user)
        return row

    def create(self, values: dict[str, Any]) -> Any:
        """Save a new row where the account may."""
        return self.row_save(self.changed())

    def update(self, row: Any, values: dict[str, Any]) -> Any:
        """Save an edit where the account may."""
        return self.row_save(self.changed(), version=row.version)


class EntryView(EditResource):
    """Rows of one kind, one by one or many at once."""

    entry: Entry
    schema = RowsSchema()
    body_max_byte = BULK_MAX_BYTE
    too_large_hint = lazy(import_hint, str)()
    own_params = {
        **dict.fromkeys(("create", "partial_update", "destroy", "edit_rows", "delete_rows"), ("dry_run",)),
        "changes": ("limit", "offset"),
    }

    def get_queryset(self) -> QuerySet[Any]:
        """Read with the rows where their related rows lie, for an account that may not see all of these."""
        rows = super().get_queryset()
        limited = region_limit(getattr(self.request, "user", None)) is not None
        return rows.select_related(*related_paths(rows.model), *region_paths(rows.model)) if limited else rows

    @idempotent()
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make one, or an array of them; of an array, or of a dry run, the answer says what was done with each."""
        dry_run, data = is_dry_run(request), request.data
        if isinstance(data, list):
            rows = RowsReader(self, rows_read(data)).made()
            return Response(rows_make(self.entry, rows, request, dry_run=dry_run), status=200 if dry_run else 201)
        if not dry_run:
            return self.make(request)
        serializer: Any = self.get_serializer(data=data)
        serializer.is_valid(raise_exception=True)
        row = serializer.changed()
        return Response(one_alone(lambda: rows_make(self.entry, [row], request, dry_run=True)))

    def edit_rows(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Edit an array of rows, each named by its id or its key; `version`, if given, is that which was read."""
        match_refuse(request)
        rows = RowsReader(self, rows_read(request.data), partial=True).edited()
        return Response(rows_edit(self.entry, rows, request, dry_run=is_dry_run(request)))

    def delete_rows(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete an array of rows: ids, keys, or objects with either and the version that was read."""
        match_refuse(request)
        rows = RowsReader(self, rows_read(request.data)).ended()
        return Response(rows_end(self.entry, rows, request, dry_run=is_dry_run(request)))

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Edit some fields."""
        if not is_dry_run(request):
            return super().partial_update(request, *args, **kwargs)
        row = self.get_object()
        self.match_check(row)
        serializer: Any = self.get_serializer(row, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        row = serializer.changed()
        return Response(one_alone(lambda: rows_edit(self.entry, [row], request, dry_run=True)))

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete it; what is used elsewhere stays, 409."""
        write_check(self.get_object(), request.user)
        if not is_dry_run(request):
            return super().destroy(request, *args, **kwargs)
        row = self.get_object()
        self.match_check(row)
        return Response(one_alone(lambda: rows_end(self.entry, [row], request, dry_run=True)))

    @extend_schema(parameters=list(PAGE), responses={200: HistorySerializer(many=True)})
    @action(detail=True, filter_backends=[])
    def changes(self, request: Request, pk: str) -> Response:
        """Show the writes of a row, newest first."""
        row = self.get_object()
        written = changes_seen(user_of(request)).filter(kind=self.entry.kind, object_id=row.pk)
        page = self.paginate_queryset(written.select_related("change_set").order_by("-change_set__number", "position"))
        shown = HistorySerializer(page, many=True, context=self.get_serializer_context())
        return self.get_paginated_response(shown.data)

    def params(self) -> dict[str, Param]:
        """Return the filters, and `at` where rows have a first and a last day."""
        found = params_of(self.rows_model, tuple(self.filters.items()))
        day = day_param(self.entry)
        return {**found, day.name: day} if day else found

    def orderings(self) -> dict[str, str]:
        """Leave out the order of related rows that the account may not see."""
        found, params = super().orderings(), self.params()
        if region_limit(getattr(self.request, "user", None)) is None:
            return found
        hidden = {field.name for field in self.entry.fields if isinstance(field, ForeignKey) and may_be_hidden(field)}
        first = {name: params[name].relation.split("__")[0] for name in found if name in params}
        return {name: path for name, path in found.items() if first.get(name) not in hidden}


def match_refuse(request: Request) -> None:
    """Refuse If-Match for many rows: each has a version of its own."""
    if "If-Match" in request.headers:
        raise ValidationError({"If-Match": ["It is about one row: give each row its version in the body."]})


def one_alone(write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Write one row; what is wrong is told as of one row, without its index."""
    try:
        return write()
    except RowsWriteError as error:
        if error.stale:
            raise StaleError from error
        raise error.as_validation() from error


def serializer_of(entry: Entry) -> type[EntrySerializer]:
    """Return the serializer of a kind of row."""
    fields = [*COMMON, *(field.name for field in entry.fields), *KEPT]
    meta = type("Meta", (), {"model": entry.model, "fields": fields})
    related = {field.name: brief_field(field) for field in entry.fields if isinstance(field, ForeignKey)}
    doc = (entry.model.__doc__ or "").strip()
    name = f"{entry.model.__name__}Serializer"
    return type(name, (EntrySerializer,), {**related, "Meta": meta, "__doc__": doc, "__module__": __name__})


def brief_field(field: "ForeignKey[Any, Any]") -> BriefField:
    """Return the field of a related row."""
    optional = {"required": False, "allow_null": True} if field.null else {}
    text = {"help_text": str(field.help_text)} if field.help_text else {}
    rows = field.related_model._default_manager.select_related(*related_paths(field.related_model))
    return BriefField(queryset=rows, may_hide=may_be_hidden(field), **optional, **text)


def view_of(entry: Entry) -> type[EntryView]:
    """Return the view of a kind of row."""
    values = {
        "entry": entry,
        "is_global": not entry.regions,
        "queryset": entry.model._default_manager.select_related(*related_paths(entry.model)),
        "serializer_class": serializer_of(entry),
        "filters": filters_of(entry),
        "search": search_paths(entry),
        "__doc__": f"{entry.title}. {(entry.model.__doc__ or '').strip()}",
        "__module__": __name__,
    }
    return type(f"{entry.model.__name__}View", (EntryView,), values)


def filters_of(entry: Entry) -> dict[str, str]:
    """Return the filters of a list: every field, and the places to which a path leads."""
    own = {"id": "id", **{field.name: field.name for field in entry.fields}}
    kept = {"created_at": "created_at", "updated_at": "updated_at"}
    return {**own, **places_of(entry), **MORE_FILTERS.get(entry.model, {}), **kept}


def places_of(entry: Entry) -> dict[str, str]:
    """Return the paths to the places in which a row lies: by its own path to the region first, then by others."""
    own = {field.name for field in entry.fields}
    paths = [*entry.regions, *region_paths_full(entry)]
    found: dict[str, str] = {}
    for path in paths:
        model: Any = entry.model
        walked: list[str] = []
        for step in path.split("__"):
            if step == "pk":
                break
            model = model._meta.get_field(step).related_model
            walked.append(step)
            if model in PLACES and PLACES[model] not in own:
                found.setdefault(PLACES[model], "__".join(walked))
    return found


def region_paths_full(entry: Entry) -> Iterable[str]:
    """Yield the paths over each related row to its region."""
    for field in entry.fields:
        if isinstance(field, ForeignKey):
            for path in BY_KIND[str(field.related_model._meta.model_name)].regions:
                yield f"{field.name}__{path}"


def search_paths(entry: Entry) -> tuple[str, ...]:
    """Return what `?q=` looks into: the key, and every text without fixed choices."""
    texts = (field.name for field in entry.fields if isinstance(field, CharField) and not field.choices)
    return tuple(dict.fromkeys((*key_paths(entry.model), *texts)))


def day_param(entry: Entry) -> DayParam | None:
    """Return the parameter `at` of a kind of row that has a first day."""
    names = {field.name for field in entry.fields if isinstance(field, DateField)}
    for first, last in DAYS:
        if first in names:
            return DayParam("at", first, "date", "at", last=last if last in names else "")
    return None


VIEWS: Mapping[str, type[EntryView]] = {entry.name: view_of(entry) for entry in INVENTORY.values()}
"""Views by the name of their entry."""
