"""Calibrations of serving over HTTP: versions after own measurements, and how wrong predictions are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accelerator import DataFileError, TraceError
from accelerator.accuracy import SCHEMES
from accelerator.points import COLUMNS
from api.auth import Right
from api.errors import ConflictError, RowsError
from api.filters import TEXT_MAX, Param
from api.idempotency import idempotent
from api.resources import DRY_RUN, Door, ReadResource, is_dry_run, user_of
from api.serializers import COMMON, BriefField, RowSerializer, ServingCalibrationSerializer, StrictSerializer
from api.views import download
from scenarios.accuracy import (
    BASIS_WORDS,
    GROUPS,
    SCHEME,
    SUMMARY_FIGURES,
    SUMMARY_GROUPS,
    Accuracy,
    ErrorFigures,
    HeldRow,
    accuracy_take,
    rows_group,
    rows_worst,
)
from scenarios.calibrations import (
    CELL_MOST,
    NOTE_MOST,
    PASSED_OVER,
    POINTS_MOST,
    READ,
    CalibrationChangedError,
    Draft,
    OwnRow,
    PointsRefusedError,
    Rejection,
    TableRow,
    calibration_draft,
    calibration_facts,
    calibration_keep,
    calibration_use,
    columns_check,
    table_rows,
)
from scenarios.models import CalibrationChange, CalibrationVersion

CSV_MOST = 2**20
CSV = (200, "text/csv")


# --- a version as JSON ---
class RejectedRowSerializer(serializers.Serializer[Any]):
    """A row that was not taken."""

    index = serializers.IntegerField(help_text="Of `rows`, from 0; of a table, rows after its header.")
    line = serializers.IntegerField(allow_null=True, help_text="Of `csv`.")
    column = serializers.CharField(allow_null=True)
    message = serializers.CharField()


class OwnErrorsSerializer(serializers.Serializer[Any]):
    """Median errors on own points: predicted over measured, less 1, without sign."""

    points = serializers.IntegerField(help_text="[-]")
    points_added = serializers.IntegerField(help_text="[-]")
    before_error_ratio = serializers.FloatField(help_text="Of what was in use before. [-]")
    after_error_ratio = serializers.FloatField(help_text="Of this version, which has seen the points. [-]")
    held_out_error_ratio = serializers.FloatField(
        allow_null=True, help_text="Of what the other own points predict; null: there are no others. [-]"
    )


class ChipOwnErrorsSerializer(OwnErrorsSerializer):
    """The same of one chip."""

    chip = serializers.CharField()


class CalibrationErrorsSerializer(serializers.Serializer[Any]):
    """Errors on all own points, and by chip."""

    all = OwnErrorsSerializer()
    chips = ChipOwnErrorsSerializer(many=True)


class CalibrationChangeSerializer(serializers.ModelSerializer[CalibrationChange]):
    """That it was taken into use."""

    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Null: the command line."
    )

    class Meta:
        model = CalibrationChange
        fields = ["owner", "created_at"]


class CalibrationVersionSerializer(RowSerializer):
    """The serving calibration after own measurements."""

    parent = BriefField(read_only=True, allow_null=True)  # type: ignore[assignment]  # the name is the column's
    errors = serializers.SerializerMethodField(help_text="On the own points, before and after.")  # type: ignore[assignment]
    changes = CalibrationChangeSerializer(
        many=True, read_only=True, help_text="When it was taken into use, last first."
    )
    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who made it; null: the command line."
    )

    class Meta:
        model = CalibrationVersion
        fields = [
            *(*COMMON, "parent", "is_active", "digest", "published_digest", "fitted_on", "note", "points"),
            *("points_added", "errors", "owner", "changes", "created_at"),
        ]
        read_only_fields = fields

    @extend_schema_field(CalibrationErrorsSerializer)
    def get_errors(self, row: CalibrationVersion) -> dict[str, Any]:
        """Return them with a row for each chip."""
        return errors_dict(row.errors)


class CalibrationMadeSerializer(CalibrationVersionSerializer):
    """A version as it is made, with the rows that were not taken."""

    rejected = RejectedRowSerializer(many=True, read_only=True)

    class Meta(CalibrationVersionSerializer.Meta):
        fields = [*CalibrationVersionSerializer.Meta.fields, "rejected"]
        read_only_fields = fields


class CalibrationDraftSerializer(serializers.Serializer[Any]):
    """What would come of it."""

    digest = serializers.CharField()
    fitted_on = serializers.DateField()
    points = serializers.IntegerField(help_text="[-]")
    points_added = serializers.IntegerField(help_text="[-]")
    errors = CalibrationErrorsSerializer()  # type: ignore[assignment]
    rejected = RejectedRowSerializer(many=True)


CELL = {"type": ["string", "number", "null"], "maxLength": CELL_MOST}


@extend_schema_field({
    "type": "object",
    "required": sorted(COLUMNS),
    "additionalProperties": False,
    "properties": dict.fromkeys((*READ, *PASSED_OVER), CELL),
})  # fmt: skip
class PointRowField(serializers.Field[Any, Any, Any, Any]):
    """A row of own points, by the columns of the published table."""

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """Return its cells as text."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("An object is needed, with a value for each column.")
        try:
            columns_check(data, "rows")
        except TraceError as error:
            raise serializers.ValidationError(error.reason) from error
        return {name: self._text(name, value) for name, value in data.items()}

    def _text(self, name: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise serializers.ValidationError({name: ["A text or a number is needed."]})
        if isinstance(value, float) and not math.isfinite(value):
            raise serializers.ValidationError({name: ["A number is needed."]})
        if "\x00" in str(value):
            raise serializers.ValidationError({name: ["Null characters are not allowed."]})
        return str(value)


class PointsSerializer(StrictSerializer):
    """Own serving points: a table as text, or rows."""

    csv = serializers.CharField(
        required=False, max_length=CSV_MOST, trim_whitespace=False, help_text="With the columns of the published table."
    )
    rows = serializers.ListField(child=PointRowField(), required=False, min_length=1, max_length=POINTS_MOST)
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=NOTE_MOST)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """One of both is needed."""
        if ("csv" in values) == ("rows" in values):
            raise serializers.ValidationError({"rows": ["Give either rows or csv."]})
        return values


def errors_dict(errors: Mapping[str, Any]) -> dict[str, Any]:
    """Return errors on own points with a row for each chip."""
    return {"all": errors["all"], "chips": [{"chip": chip, **one} for chip, one in errors["chips"].items()]}


def rejected_dict(one: Rejection, *, is_csv: bool) -> dict[str, Any]:
    """Return a row that was not taken, with its place."""
    return {
        "index": one.index,
        "line": one.line if is_csv else None,
        "column": one.column,
        "message": one.reason,
    }


def draft_read(request: Request) -> dict[str, Any]:
    """Return what the points of a body make of the calibration, not stored yet."""
    is_dry_run(request)
    asked = PointsSerializer(data=request.data)
    asked.is_valid(raise_exception=True)
    values = asked.validated_data
    is_csv = "csv" in values
    field = "csv" if is_csv else "rows"
    try:
        rows = (
            table_rows(values["csv"], "csv")
            if is_csv
            else [TableRow(at + 2, at, cells) for at, cells in enumerate(values["rows"])]
        )
        if not rows:
            raise PointsRefusedError("the table has no rows")
        draft = calibration_draft(rows, note=values["note"])
    except TraceError as error:
        place = {"field": field, "line": error.line, "column": error.column, "message": error.reason}
        raise RowsError([place]) from error
    except PointsRefusedError as error:
        places = [{"field": field, **rejected_dict(one, is_csv=is_csv)} for one in error.rejected]
        raise RowsError(places or [{"field": field, "message": str(error)}]) from error
    except DataFileError as error:
        raise ConflictError(f"There is no published fit to start from: {error}", code="no_calibration") from error
    return {"draft": draft, "is_csv": is_csv}


# --- the views ---
class CalibrationView(ReadResource):
    """Calibrations of serving after own measurements. A version never changes; which one is in use does."""

    queryset = (
        CalibrationVersion.objects.defer("payload", "table")
        .select_related("owner", "parent")
        .defer("parent__payload", "parent__table")
        .prefetch_related("changes__owner")
    )
    serializer_class = CalibrationVersionSerializer
    filters = {
        "parent": "parent",
        "is_active": "is_active",
        "digest": "digest",
        "published_digest": "published_digest",
        "fitted_on": "fitted_on",
        "points": "points",
        "created_at": "created_at",
    }
    search = ("note",)
    is_global = True
    change = Right("write", ("scenarios.change_calibrationversion",))
    rights = {"activate": change, "published": change}
    buckets = {"create": "run", "points_csv": "export"}
    own_params = {"create": ("dry_run",)}

    @extend_schema(
        parameters=[DRY_RUN],
        request=PointsSerializer,
        responses={
            200: OpenApiResponse(CalibrationDraftSerializer, "A dry run: nothing was stored."),
            201: CalibrationMadeSerializer,
        },
    )
    @idempotent(read=draft_read)
    def create(self, request: Request, *, draft: Draft, is_csv: bool) -> Response:
        """Move the calibration by own points and take it into use. If no row is usable: 400 with every reason."""
        rejected = [rejected_dict(one, is_csv=is_csv) for one in draft.rejected]
        if is_dry_run(request):
            shown = {
                "digest": draft.calibration.digest,
                "fitted_on": draft.calibration.fitted_on,
                "points": len(draft.own),
                "points_added": draft.points_added,
                "errors": errors_dict(draft.errors),
                "rejected": rejected,
            }
            return Response(shown)
        try:
            version = calibration_keep(draft, owner=user_of(request))
        except CalibrationChangedError as error:
            raise ConflictError(f"{str(error)[:1].upper()}{str(error)[1:]}: ask again.") from error
        data = self.get_serializer(self.get_queryset().get(pk=version.pk)).data
        return Response({**data, "rejected": rejected}, status=201, headers={"Location": data["url"]})

    @extend_schema(request=None, responses={200: CalibrationVersionSerializer})
    @action(detail=True, methods=["post"], filter_backends=[], pagination_class=None)
    def activate(self, request: Request, pk: str) -> Response:
        """Take a version into use; one that is in use already stays so."""
        calibration_use(self.get_object(), owner=user_of(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=None, responses={200: ServingCalibrationSerializer})
    @action(detail=False, methods=["post"], url_path="published/activate", filter_backends=[], pagination_class=None)
    def published(self, request: Request) -> Response:
        """Take the published fit into use again; all versions stay."""
        facts = calibration_facts()
        if facts is None:
            raise ConflictError("There is no published fit.", code="no_calibration")
        calibration_use(None, owner=user_of(request))
        return Response(calibration_facts())

    @extend_schema(responses={CSV: OpenApiTypes.STR})
    @action(detail=True, url_path=r"points\.csv", filter_backends=[], pagination_class=None)
    def points_csv(self, request: Request, pk: str) -> HttpResponse:
        """Download the own points that a version stands on."""
        version = self.get_object()
        table = CalibrationVersion.objects.values_list("table", flat=True).get(pk=version.pk)
        return download(table, "text/csv", f"calibration-{pk}-points.csv")


# --- how wrong predictions are ---
class ErrorFiguresSerializer(serializers.Serializer[Any]):
    """How far a group of held-out rows is off."""

    name = serializers.CharField()
    rows = serializers.IntegerField(help_text="[-]")
    error_ratio = serializers.FloatField(help_text="Median error. [-]")
    error_p90_ratio = serializers.FloatField(help_text="P90 of the error. [-]")
    ratio_p10 = serializers.FloatField(help_text="Predicted over measured. [-]")
    ratio_p50 = serializers.FloatField(help_text="[-]")
    ratio_p90 = serializers.FloatField(help_text="[-]")
    band_low_ratio = serializers.FloatField(help_text="Eight ratios of ten should lie above this, [-]")
    band_high_ratio = serializers.FloatField(help_text="and below this: the median band of the group. [-]")
    coverage_ratio = serializers.FloatField(help_text="Share of rows whose band holds what was measured. [-]")


class HeldRowSerializer(serializers.Serializer[Any]):
    """A held-out row: what was measured itself is not shown."""

    point_id = serializers.CharField()
    chip = serializers.CharField()
    model = serializers.CharField()
    engine = serializers.CharField()
    metric = serializers.CharField()
    metric_class = serializers.CharField()
    load = serializers.CharField()
    basis = serializers.CharField()
    ratio = serializers.FloatField(help_text="Predicted over measured. [-]")
    p10_ratio = serializers.FloatField(help_text="Band over the prediction. [-]")
    p90_ratio = serializers.FloatField(help_text="[-]")
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    reason = serializers.CharField(allow_blank=True)


class OwnRowSerializer(serializers.Serializer[Any]):
    """An own point with what the calibration in use predicts for it, in the unit of its metric."""

    point_id = serializers.CharField()
    chip = serializers.CharField()
    model = serializers.CharField()
    engine = serializers.CharField()
    metric = serializers.CharField()
    metric_class = serializers.CharField()
    unit = serializers.CharField(allow_blank=True)
    measured = serializers.FloatField()
    p10 = serializers.FloatField()
    p50 = serializers.FloatField()
    p90 = serializers.FloatField()
    basis = serializers.CharField()
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]


class UnknownChipSerializer(serializers.Serializer[Any]):
    """A chip about which little or nothing was measured."""

    chip = serializers.CharField()
    rows = serializers.IntegerField(help_text="Measured rows. [-]")
    basis = serializers.CharField(help_text="calibrated, or modelled from the data sheet.")
    reason = serializers.CharField()


def summary_schema() -> dict[str, Any]:
    """Return how the figures of a scheme look."""
    figure = {"type": ["number", "null"]}
    groups = [name.replace(" ", "_") for group in SUMMARY_GROUPS for name in (group, f"{group}_chips")]
    names = [*groups, *(name.replace(" ", "_") for name in SUMMARY_FIGURES)]
    words = {"scheme": {"type": "string"}, "held_out": {"type": "string"}, "rows": {"type": ["integer", "null"]}}
    return {"type": "object", "properties": {**words, **dict.fromkeys(names, figure)}}


@extend_schema_field(summary_schema())
class SummaryField(serializers.DictField):
    """Figures of a scheme; those that end in _chips are medians over chips."""


class AccuracySerializer(serializers.Serializer[Any]):
    """How wrong predictions of serving are, on rows that the published fit had not seen."""

    calibration = ServingCalibrationSerializer(allow_null=True, help_text="In use.")
    published = ServingCalibrationSerializer(allow_null=True, help_text="What all held-out figures are about.")
    summary = serializers.ListField(child=SummaryField(), help_text="Of every scheme, unfiltered.")
    scheme = serializers.ChoiceField(choices=list(SCHEMES))
    held_out = serializers.CharField(help_text="What was held out, in words.")
    figures = ErrorFiguresSerializer(allow_null=True, help_text="Of all rows that pass the filters.")
    chips = ErrorFiguresSerializer(many=True)
    engines = ErrorFiguresSerializer(many=True)
    models = ErrorFiguresSerializer(many=True)
    classes = ErrorFiguresSerializer(many=True, help_text="Classes of metrics.")
    worst = HeldRowSerializer(many=True, help_text="Twenty at most, the furthest off first.")
    own = OwnRowSerializer(many=True, help_text="Own points of the version in use.")
    unknown = UnknownChipSerializer(many=True)


PLURALS = {"chip": "chips", "engine": "engines", "model": "models", "class": "classes"}
SCHEME_PARAM = Param("scheme", "scheme", "text", choices=tuple(SCHEMES))


def accuracy_params() -> list[OpenApiParameter]:
    """Return the parameters as the schema shows them."""
    scheme = OpenApiParameter("scheme", str, enum=list(SCHEMES), default=SCHEME, description="What was held out.")
    text = {"type": "array", "items": {"type": "string", "maxLength": TEXT_MAX}}
    return [scheme, *(OpenApiParameter(name, text, description="Repeat to mean OR.") for name in GROUPS)]


class AccuracyView(Door):
    """How wrong predictions are: by chip, engine, model and class of metric, the worst rows, what is not known."""

    rights = {"get": Right("read")}
    own_params = {"get": ("scheme", *GROUPS)}

    @extend_schema(parameters=accuracy_params(), responses={200: AccuracySerializer})
    def get(self, request: Request) -> Response:
        """Return the figures of one scheme; all is empty where there is no published fit."""
        schemes = request.query_params.getlist("scheme")
        if len(schemes) > 1:
            raise ValidationError({"scheme": ["Only one value is taken."]})
        scheme = SCHEME_PARAM.read(schemes[0]) if schemes else SCHEME
        wanted = {name: self._texts(request, name) for name in GROUPS}
        return Response(accuracy_dict(accuracy_take(scheme, wanted)))

    def _texts(self, request: Request, name: str) -> list[str]:
        param = Param(name, name, "text")
        return [param.read(raw) for raw in request.query_params.getlist(name)]


def accuracy_dict(found: Accuracy) -> dict[str, Any]:
    """Return it as JSON values."""
    return {
        "calibration": found.calibration,
        "published": found.published,
        "summary": found.summary,
        "scheme": found.scheme,
        "held_out": SCHEMES[found.scheme],
        "figures": asdict(found.figures) if found.figures else None,
        **{plural: figures_list(rows_group(found.rows, name)) for name, plural in PLURALS.items()},
        "worst": [row_dict(row) for row in rows_worst(found.rows)],
        "own": [row_dict(row) for row in found.own],
        "unknown": [asdict(one) for one in found.unknown],
    }


def figures_list(figures: Sequence[ErrorFigures]) -> list[dict[str, Any]]:
    """Return figures of groups as JSON values."""
    return [asdict(one) for one in figures]


def row_dict(row: HeldRow | OwnRow) -> dict[str, Any]:
    """Return a row with the word for what its prediction stands on."""
    values = asdict(row)
    values.pop("scheme", None)
    return values | {"basis": BASIS_WORDS.get(row.basis, row.basis)}
