"""Demand over HTTP: forecasts of services, and the histories that they stand on."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import numpy as np
from django.http import Http404, HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from api.auth import Right
from api.errors import ConflictError, RowsError
from api.filters import KINDS, PAGE, Param, StrictPages
from api.idempotency import idempotent
from api.places import paged_of
from api.renderers import OrjsonParser
from api.resources import Door, ReadResource, user_of
from api.serializers import COMMON, BandSerializer, BriefField, RowSerializer, StrictSerializer, row_url
from api.views import CSV, download
from fleet.access import rows_writable
from fleet.models import Service
from fleet.models.versioned import DAY_FIRST, DAY_LAST
from scenarios.demand import month_add, month_first, month_label, months_list
from scenarios.demands import DemandView as Demand
from scenarios.demands import HistoryChangedError, coverage_of, history_store, scores_of
from scenarios.forecast import DemandFan
from scenarios.histories import COLUMNS, HOUR_S, WINDOW_LEAST_S, WINDOWS_MOST, History, HistoryError
from scenarios.history_files import MOST, HistoryFaultsError, history_read
from scenarios.models import DemandHistory
from scenarios.seen import demand_seen

MONTHS, MONTHS_MOST = 24, 60
BODY_MAX_BYTE = 2**24
FROM = Param("from", "from", "date")
COUNT = Param("months", "months", "integer")
WHEN = [
    OpenApiParameter("from", dict(KINDS["date"].schema), description="Any day of the first month; default: today."),
    OpenApiParameter("months", {"type": "integer", "minimum": 1, "maximum": MONTHS_MOST}, description="Default: 24."),
]


# --- forecasts --------------------------------------------------------------------------------------------------------
class DemandMonthSerializer(serializers.Serializer[Any]):
    """The busiest hour of a month: as planners take it, and as the model alone says it. [1/s]"""

    month = serializers.CharField(help_text="YYYY-MM.")
    request_s = BandSerializer()
    model_request_s = BandSerializer(help_text="Without events and overrides.")


class DemandSerializer(serializers.Serializer[Any]):
    """The demand of one service."""

    service = serializers.CharField(help_text="Slug.")
    url = serializers.URLField()
    display = serializers.CharField()
    region = serializers.CharField()
    tier = serializers.CharField()
    basis = serializers.ChoiceField(choices=["history", "stated"])
    note = serializers.CharField(help_text="What it stands on.")
    mean_ratio = serializers.FloatField(help_text="Mean rate over that of the busiest hour. [-]")
    input_tok = serializers.FloatField(help_text="Mean prompt. [tok]")
    output_tok = serializers.FloatField(help_text="Mean answer. [tok]")
    cache_hit_ratio = serializers.FloatField(help_text="Share of prompt tokens found in a prefix cache. [-]")
    top_client_ratio = serializers.FloatField(allow_null=True, help_text="Share of the biggest client. [-]")
    history = serializers.URLField(allow_null=True, help_text="The history that it stands on.")
    coverage_ratio = serializers.FloatField(
        allow_null=True, help_text="Of the history's own backtest: share of later windows in P10 to P90. [-]"
    )
    months = DemandMonthSerializer(many=True)


class DemandView(Door):
    """What the demand of services will be, by month."""

    rights = {"get": Right("read")}

    def months(self) -> tuple[date, ...]:
        """Return the months that are asked about."""
        first: date = self._one(FROM) or timezone.now().date()
        if not DAY_FIRST <= first <= DAY_LAST:
            raise ValidationError({"from": [f"A day from {DAY_FIRST} to {DAY_LAST} is needed."]})
        count: int = self._one(COUNT) if "months" in self.request.query_params else MONTHS
        if not 1 <= count <= MONTHS_MOST:
            raise ValidationError({"months": [f"1 to {MONTHS_MOST} months are shown."]})
        return months_list(month_first(first), month_add(first, count - 1))

    def _one(self, param: Param) -> Any:
        raws = self.request.query_params.getlist(param.name)
        if len(raws) > 1:
            raise ValidationError({param.name: ["Only one value is taken."]})
        return param.read(raws[0]) if raws else None

    def row(self, service: Service, demand: Demand, months: tuple[date, ...]) -> dict[str, Any]:
        """Return the demand of a service as it is shown."""
        fan, stored = demand.fan, demand.history
        bands = zip(months, bands_of(fan), bands_of(demand.model), strict=True)
        names = ("basis", "note", "mean_ratio", "input_tok", "output_tok", "cache_hit_ratio", "top_client_ratio")
        return {
            "service": service.slug,
            "url": reverse("api:demand-detail", kwargs={"slug": service.slug}, request=self.request),
            "display": service.name,
            "region": service.region.slug,
            "tier": service.tier,
            **{name: getattr(fan, name) for name in names},
            "history": row_url(stored, self.request) if stored else None,
            "coverage_ratio": coverage_of(scores_of(stored)) if stored else None,
            "months": [
                {"month": month_label(month), "request_s": taken, "model_request_s": model}
                for month, taken, model in bands
            ],
        }


class DemandListView(DemandView):
    """The demand of all services."""

    def allowed_params(self) -> Iterable[str]:
        """Return the parameters of the list."""
        return ("from", "months", "limit", "offset")

    @extend_schema(
        parameters=[*WHEN, *PAGE],
        responses={200: paged_of("DemandPage", DemandSerializer)},
        operation_id="demand_list",
    )
    def get(self, request: Request) -> Response:
        """Show the services that the account sees, by slug."""
        months, pages = self.months(), StrictPages()
        services = demand_seen(user_of(request), timezone.now().date())
        page = pages.paginate_queryset(services, request, self)
        demands = services.demands(page, months)
        return pages.get_paginated_response([self.row(*pair, months) for pair in zip(page, demands, strict=True)])


class DemandDetailView(DemandView):
    """The demand of one service."""

    def allowed_params(self) -> Iterable[str]:
        """Return the parameters of the question."""
        return ("from", "months")

    @extend_schema(parameters=WHEN, responses={200: DemandSerializer})
    def get(self, request: Request, slug: str) -> Response:
        """Show it."""
        months, services = self.months(), demand_seen(user_of(request), timezone.now().date())
        found = services.named(slug)
        if found is None:
            raise Http404(f"There is no service {slug}.")
        return Response(self.row(found, services.demands([found], months)[0], months))


def bands_of(fan: DemandFan) -> list[dict[str, float]]:
    """Return the bands of a fan, month by month."""
    quantiles = zip(fan.p10_request_s, fan.p50_request_s, fan.p90_request_s, strict=True)
    return [dict(zip(("p10", "p50", "p90"), band, strict=True)) for band in quantiles]


# --- histories --------------------------------------------------------------------------------------------------------
class ScoreSerializer(serializers.Serializer[Any]):
    """How forecasts at one horizon would have fared on one part of a history."""

    series = serializers.CharField()
    part = serializers.ChoiceField(choices=["first", "rest"])
    what = serializers.ChoiceField(choices=["window", "peak"])
    horizon_s = serializers.IntegerField(help_text="[s]")
    origins = serializers.IntegerField(help_text="Forecasts made. [-]")
    coverage_ratio = serializers.FloatField(help_text="Share that P10 to P90 held. [-]")
    below_ratio = serializers.FloatField(help_text="Share below P10. [-]")
    above_ratio = serializers.FloatField(help_text="Share above P90. [-]")
    loss_ratio = serializers.FloatField(help_text="Mean pinball loss over the mean rate. [-]")
    last_loss_ratio = serializers.FloatField(allow_null=True, help_text="The same of the last rate. [-]")
    day_before_loss_ratio = serializers.FloatField(allow_null=True, help_text="Of the rate a day before. [-]")


class DemandHistorySerializer(RowSerializer):
    """A measured demand, without its arrays."""

    service = BriefField(read_only=True)
    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who gave it last."
    )
    scores = ScoreSerializer(many=True, read_only=True)

    class Meta:
        model = DemandHistory
        fields = [
            *(*COMMON, "service", "name", "digest", "starts_at", "ends_at", "window_s", "windows", "scores", "note"),
            *("is_invented", "owner", "created_at", "updated_at"),
        ]
        read_only_fields = fields


class _KeepSerializer(StrictSerializer):
    service = serializers.SlugField(max_length=50, help_text="Slug of the service.")
    instead = serializers.BooleanField(default=False, help_text="Instead of what is known, not joined to it.")

    def validate_service(self, slug: str) -> Service:
        """It is one that the account may write about."""
        service = rows_writable(Service.objects.all(), self.context["request"].user).filter(slug=slug).first()
        if service is None:
            raise serializers.ValidationError(f"There is no service {slug!r}.")
        return service


class HistoryUploadSerializer(_KeepSerializer):
    """A file of windows: csv or csv.gz."""

    file = serializers.FileField(help_text="window_start, or window_start_s with starts_at; request_s or rate_rps; ...")
    starts_at = serializers.DateTimeField(required=False, help_text="Moment from which window_start_s counts.")
    window_s = serializers.IntegerField(
        required=False, min_value=WINDOW_LEAST_S, max_value=HOUR_S, help_text="Default: the least distance of rows. [s]"
    )


class HistoryBodySerializer(_KeepSerializer):
    """Windows as arrays of one length; null is what nobody knows."""

    name = serializers.CharField(max_length=120, required=False, default="API", help_text="Where it came from.")
    starts_at = serializers.DateTimeField(help_text="Begin of the first window.")
    window_s = serializers.IntegerField(min_value=WINDOW_LEAST_S, max_value=HOUR_S, help_text="[s]")

    def get_fields(self) -> dict[str, Any]:
        """One array for each column."""
        return {**super().get_fields(), **{name: self._array(name) for name in COLUMNS}}

    def _array(self, name: str) -> serializers.ListField:
        cell = serializers.FloatField(allow_null=True, min_value=0, max_value=MOST[name])
        return serializers.ListField(
            child=cell, required=name == "request_s", min_length=1, max_length=WINDOWS_MOST, help_text=f"{name}."
        )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """All arrays have one length."""
        for name in COLUMNS:
            if name in values and len(values[name]) != len(values["request_s"]):
                text = f"{len(values[name])} values where request_s has {len(values['request_s'])}."
                raise serializers.ValidationError({name: [text]})
        return values


def body_read(request: Request) -> dict[str, Any]:
    """Return the history of a body, not stored yet."""
    asked = HistoryBodySerializer(data=request.data, context={"request": request})
    asked.is_valid(raise_exception=True)
    values = asked.validated_data
    arrays = {name: np.array(values[name], dtype=np.float64) for name in COLUMNS if name in values}
    try:
        history = History(int(values["starts_at"].timestamp()), values["window_s"], **arrays)
    except HistoryError as error:
        raise ValidationError({"request_s": [f"{str(error)[:1].upper()}{str(error)[1:]}."]}) from error
    return {"history": history, "kept": {"name": values["name"], "is_new": values["instead"]}, "of": values["service"]}


def upload_read(request: Request) -> dict[str, Any]:
    """Return the history of an upload, not stored yet. Every row that is wrong is named."""
    asked = HistoryUploadSerializer(data=request.data, context={"request": request})
    asked.is_valid(raise_exception=True)
    values = asked.validated_data
    file, window_s = values["file"], values.get("window_s")
    try:
        read = history_read(file, file.name, starts_at=values.get("starts_at"), window_s=window_s)
    except HistoryFaultsError as error:
        raise RowsError([
            {"field": "file", "line": one.line, "column": one.column, "message": one.reason} for one in error.faults
        ]) from error  # fmt: skip
    kept = {"name": file.name, "note": read.note, "is_new": values["instead"]}
    return {"history": read.history, "kept": kept, "of": values["service"]}


class DemandHistoryView(mixins.DestroyModelMixin, ReadResource):
    """The measured demand of services, one history each. New windows are joined to those that are there."""

    queryset = DemandHistory.objects.defer("arrays").select_related("service__region", "owner")
    serializer_class = DemandHistorySerializer
    parser_classes = (OrjsonParser,)
    body_max_byte = BODY_MAX_BYTE
    filters = {
        "service": "service",
        "name": "name",
        "digest": "digest",
        "window_s": "window_s",
        "is_invented": "is_invented",
        "starts_at": "starts_at",
        "ends_at": "ends_at",
        "created_at": "created_at",
        "updated_at": "updated_at",
    }
    search = ("name", "note")
    conditional = False
    rights = {"upload": Right("write", ("scenarios.add_demandhistory",))}
    buckets = {"create": "run", "upload": "run", "windows_csv": "export"}

    @extend_schema(request=HistoryBodySerializer, responses={201: DemandHistorySerializer})
    @idempotent(read=body_read)
    def create(self, request: Request, *, history: History, kept: Mapping[str, Any], of: Service) -> Response:
        """Keep windows of a service: joined to those that are there, which they replace where they meet."""
        return self._keep(request, history, kept, of)

    @extend_schema(request={"multipart/form-data": HistoryUploadSerializer}, responses={201: DemandHistorySerializer})
    @action(detail=False, methods=["post"], parser_classes=[MultiPartParser], filter_backends=[], pagination_class=None)
    @idempotent(read=upload_read)
    def upload(self, request: Request, *, history: History, kept: Mapping[str, Any], of: Service) -> Response:
        """Keep the windows of a file. Rows that are wrong are 400, each with line and column; nothing is kept then."""
        return self._keep(request, history, kept, of)

    @extend_schema(responses={CSV: OpenApiTypes.STR})
    @action(detail=True, url_path=r"windows\.csv", filter_backends=[], pagination_class=None)
    def windows_csv(self, request: Request, pk: str) -> HttpResponse:
        """Download the windows, as they can be given again."""
        row = self.get_object()
        history = History.from_bytes(bytes(DemandHistory.objects.values_list("arrays", flat=True).get(pk=row.pk)))
        return download(history.csv(), "text/csv", f"demand-{row.service.slug}.csv")

    def _keep(self, request: Request, history: History, kept: Mapping[str, Any], of: Service) -> Response:
        try:
            stored = history_store(of, history, owner=user_of(request), **kept)
        except HistoryChangedError as error:
            raise ConflictError("Somebody else has written this history meanwhile: ask again.") from error
        except HistoryError as error:
            raise ValidationError({"window_s": [f"{str(error)[:1].upper()}{str(error)[1:]}."]}) from error
        data = self.get_serializer(self.get_queryset().get(pk=stored.pk)).data
        return Response(data, status=201, headers={"Location": data["url"]})
