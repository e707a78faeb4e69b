"""Resources and questions over HTTP. No formula, no query beyond the queryset."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.urls import Resolver404, resolve
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from api import serializers
from api.auth import Right
from api.errors import ConflictError
from api.idempotency import idempotent
from api.models import Token
from api.resources import Door, EditResource, ReadResource, user_of
from api.tokens import token_make, token_revoke
from scenarios.models import Report, Run, Scenario, Schedule, StoredRating, Trace
from scenarios.queries import CapacityQuestion
from scenarios.rating_store import (
    catalog_is_known,
    catalog_state,
    exchange_query,
    rating_get_or_compute,
    rating_question,
)
from scenarios.result_tables import tables_of
from scenarios.seen import capacity_query_seen, report_seen, result_seen, seen
from scenarios.services import run_cancel, run_submit, trace_delete, trace_keep, trace_read
from scenarios.tables import Table

LONG_POLL_LOOK_S = 0.25
RETRY_AFTER_S = 1
_waiters = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 2))  # the other half stays free for answers

CSV = (200, "text/csv")
HTML = (200, "text/html")
WAIT = OpenApiParameter("wait", int, description="Seconds to wait for the run to end, 0 to 20.")


# --- scenarios and their runs ---
def upload_read(request: Request) -> dict[str, Trace]:
    """Return the trace of an upload, not stored yet."""
    upload = serializers.TraceUploadSerializer(data=request.data)
    upload.is_valid(raise_exception=True)
    file = upload.validated_data["file"]
    return {"trace": trace_read(file, name=upload.validated_data.get("name") or file.name, owner=user_of(request))}


class TraceView(mixins.CreateModelMixin, ReadResource):
    """Recorded workloads. Equal arrays are stored once."""

    queryset = Trace.objects.defer("arrays").select_related("owner")
    serializer_class = serializers.TraceSerializer
    parser_classes = (MultiPartParser,)
    filters = {"name": "name", "digest": "digest", "requests": "requests", "created_at": "created_at"}
    search = ("name",)

    @extend_schema(
        request={"multipart/form-data": serializers.TraceUploadSerializer},
        responses={
            200: OpenApiResponse(serializers.TraceSerializer, "Equal arrays are there already; `Trace-Known: true`."),
            201: serializers.TraceSerializer,
        },
    )
    @idempotent(read=upload_read)
    def create(self, request: Request, *args: Any, trace: Trace, **kwargs: Any) -> Response:
        """Read an upload, csv or csv.gz, and keep it. A fault is 400 with its line and column; nothing is kept then."""
        kept, is_new = trace_keep(trace)
        if not seen(Trace.objects.filter(pk=kept.pk), request.user).exists():
            raise ConflictError("Equal arrays are there already, in a trace that your account does not see.")
        data = self.get_serializer(self.get_queryset().get(pk=kept.pk)).data
        if is_new:
            return Response(data, status=201, headers={"Location": data["url"]})
        return Response(data, headers={"Location": data["url"], "Trace-Known": "true"})

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete it; one that a scenario uses, or a run that has not ended, stays: 409."""
        trace_delete(self.get_object())
        return Response(status=204)


class ScenarioView(EditResource):
    """Questions about the fleet. Editing needs If-Match; a run keeps the inputs it was started with."""

    queryset = Scenario.objects.select_related("owner", "trace").defer("trace__arrays")
    serializer_class = serializers.ScenarioSerializer
    filters = {
        "name": "name",
        "kind": "kind",
        "starts_on": "starts_on",
        "ends_on": "ends_on",
        "trace": "trace",
        "draws": "draws",
        "is_demo": "is_demo",
        "created_at": "created_at",
        "updated_at": "updated_at",
    }
    search = ("name", "note")
    match_required = True
    rights = {"runs": Right("run", ("scenarios.add_run",))}
    buckets = {"runs": "run"}

    def made_with(self) -> dict[str, Any]:
        """A new scenario belongs to who makes it."""
        return {"owner": self.request.user}

    @extend_schema(
        request=serializers.RunRequestSerializer,
        responses={202: OpenApiResponse(serializers.RunSerializer, "Queued: `Location` says where to look.")},
    )
    @action(detail=True, methods=["post"], filter_backends=[], pagination_class=None)
    @idempotent()
    def runs(self, request: Request, pk: str) -> Response:
        """Queue a run of the scenario as it stands. A question that was answered before is answered by that result."""
        asked = serializers.RunRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        run = run_submit(scenario=self.get_object(), owner=user_of(request), **asked.validated_data)
        data = serializers.RunSerializer(run, context=self.get_serializer_context()).data
        return Response(data, status=202, headers={"Location": data["url"], "Retry-After": str(RETRY_AFTER_S)})


class ScheduleView(EditResource):
    """Scenarios that are run at set times."""

    queryset = Schedule.objects.select_related("scenario", "owner")
    serializer_class = serializers.ScheduleSerializer
    filters = {
        "name": "name",
        "scenario": "scenario",
        "zone": "zone",
        "enabled": "enabled",
        "next_fire_at": "next_fire_at",
        "is_demo": "is_demo",
    }
    search = ("name",)
    match_required = True
    conditional = False  # the next times go on while the row stays as it is

    def get_serializer_class(self) -> Any:
        """One schedule shows its next five times."""
        return serializers.ScheduleSerializer if self.verb == "list" else serializers.ScheduleDetailSerializer

    def made_with(self) -> dict[str, Any]:
        """A new schedule belongs to who makes it; its runs are theirs."""
        return {"owner": self.request.user}


class RunView(ReadResource):
    """Answers in the making. A result that is there never changes."""

    queryset = Run.objects.select_related("scenario", "schedule", "owner").defer("result")
    serializer_class = serializers.RunSerializer
    filters = {
        "scenario": "scenario",
        "schedule": "schedule",
        "status": "status",
        "inputs_digest": "inputs_digest",
        "question_digest": "question_digest",
        "engine_version": "engine_version",
        "created_at": "created_at",
        "finished_at": "finished_at",
    }
    rights = {"cancel": Right("run", ("scenarios.change_run",))}
    buckets = {"cancel": "run", "table_csv": "export"}
    own_params = {"retrieve": ("wait",), "result": ("wait",)}

    @extend_schema(parameters=[WAIT])
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show a run; `wait` holds the answer back until it has ended."""
        run: Run = awaited(self)
        headers = {} if run.has_ended else {"Retry-After": str(RETRY_AFTER_S)}
        return Response(self.get_serializer(run).data, headers=headers)

    @extend_schema(
        parameters=[WAIT],
        responses={
            200: OpenApiTypes.OBJECT,
            202: OpenApiResponse(serializers.RunSerializer, "Not ended yet: come back after `Retry-After`."),
            409: OpenApiResponse(description="The run failed or was cancelled."),
        },
    )
    @action(detail=True, filter_backends=[], pagination_class=None)
    def result(self, request: Request, pk: str) -> Response:
        """Show the result of a run that is done."""
        run: Run = awaited(self)
        if not run.has_ended:
            data = self.get_serializer(run).data
            return Response(data, status=202, headers={"Retry-After": str(RETRY_AFTER_S), "Location": data["url"]})
        return Response(self._result(run))

    @extend_schema(request=None, responses={200: serializers.RunSerializer})
    @action(detail=True, methods=["post"], filter_backends=[], pagination_class=None)
    def cancel(self, request: Request, pk: str) -> Response:
        """End a run that nobody wants any more; one that has ended stays as it is, 409."""
        run = self.get_object()
        if not run_cancel(run):
            raise ConflictError(f"The run is {self.get_object().status} already.", code="run_has_ended")
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses={CSV: OpenApiTypes.STR, 409: OpenApiResponse(description="There is no result.")})
    @action(detail=True, url_path=r"tables/(?P<name>[a-z_]{1,40})\.csv", filter_backends=[], pagination_class=None)
    def table_csv(self, request: Request, pk: str, name: str) -> HttpResponse:
        """Download one table of a result."""
        table = self._table(name)
        return download(table.csv(), "text/csv", f"run-{pk}-{table.name}.csv")

    @extend_schema(responses={200: OpenApiTypes.OBJECT, 409: OpenApiResponse(description="There is no result.")})
    @action(detail=True, url_path=r"tables/(?P<name>[a-z_]{1,40})\.json", filter_backends=[], pagination_class=None)
    def table_json(self, request: Request, pk: str, name: str) -> Response:
        """Show one table of a result: the same rows, with the units of its columns."""
        table = self._table(name)
        columns = [{"name": c.name, "label": c.label, "unit": c.unit} for c in table.columns]
        rows = [{c.name: row.get(c.name) for c in table.columns} for row in table.rows]
        return Response({"name": table.name, "caption": table.caption, "columns": columns, "rows": rows})

    def _result(self, run: Run) -> dict[str, Any]:
        if run.status != Run.Status.DONE:
            raise ConflictError(f"The run has no result: it is {run.status}. {run.error}".strip(), code="no_result")
        result = Run.objects.values_list("result", flat=True).get(pk=run.pk) or {}
        shown = result_seen(result, user_of(self.request))
        if shown is None:
            raise Http404
        return shown

    def _table(self, name: str) -> Table:
        tables = tables_of(self._result(self.get_object()))
        found = next((table for table in tables if table.name == name), None)
        if found is None:
            raise Http404(f"The result has no table {name}; there are: {', '.join(table.name for table in tables)}.")
        return found


class ReportView(ReadResource):
    """What scheduled runs left behind."""

    queryset = Report.objects.select_related("run", "schedule").defer("html", "csv", "run__result", "run__inputs")
    serializer_class = serializers.ReportSerializer
    filters = {"title": "title", "schedule": "schedule", "run": "run", "created_at": "created_at"}
    search = ("title",)
    buckets = {"html": "export", "csv": "export"}

    @extend_schema(responses={HTML: OpenApiTypes.STR})
    @action(detail=True, filter_backends=[], pagination_class=None)
    def html(self, request: Request, pk: str) -> HttpResponse:
        """Download the page."""
        report = self._report()
        return download(report.html, "text/html", f"report-{pk}.html")

    @extend_schema(responses={CSV: OpenApiTypes.STR})
    @action(detail=True, filter_backends=[], pagination_class=None)
    def csv(self, request: Request, pk: str) -> HttpResponse:
        """Download the table."""
        report = self._report()
        return download(report.csv, "text/csv", f"report-{pk}.csv")

    def _report(self) -> Report:
        report: Report = self.get_object()
        if not report_seen(report, self.request.user):
            raise Http404
        return report


# --- ratings ---
class RatingView(ReadResource):
    """Ratings of chips for models, by simulation. A rating that is stored never changes; `is_current` may."""

    queryset = StoredRating.objects.all()
    serializer_class = serializers.StoredRatingSerializer
    filters = {
        "chip": "chip",
        "model": "model",
        "mix": "mix",
        "ttft_p95_s": "ttft_p95_s",
        "tpot_p95_s": "tpot_p95_s",
        "percentile": "percentile",
        "host_chips": "host_chips",
        "tok_s_per_chip": "tok_s_per_chip",
        "binds": "binds",
        "basis": "basis",
        "digest": "digest",
        "created_at": "created_at",
    }
    search = ("chip", "model")
    rights = {"query": Right("read")}
    buckets = {"query": "run"}  # it may have to be simulated

    @extend_schema(request=serializers.RatingQuestionSerializer, responses={200: serializers.StoredRatingSerializer})
    @action(detail=False, methods=["post"], filter_backends=[], pagination_class=None)
    def query(self, request: Request) -> Response:
        """Rate a chip for a model: looked up, or simulated at once. A refusal is an answer, with its reason."""
        asked = serializers.RatingQuestionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        row = rating_get_or_compute(rating_question(**asked.validated_data))
        return Response(self.get_serializer(row).data)


class RatingCatalogView(Door):
    """How far ratings are that an answer has missed, or that were ordered from the catalog."""

    rights = {"get": Right("read")}

    @extend_schema(responses={200: serializers.RatingCatalogSerializer})
    def get(self, request: Request, uid: UUID) -> Response:
        """Show a catalog; one that has no batch is not there."""
        if not catalog_is_known(uid):
            raise NotFound(f"There is no catalog of ratings {uid}.")
        state = catalog_state(uid)
        values = {"status": state.status, "progress_ratio": state.progress_ratio, "error": state.error}
        return Response({"catalog": str(uid), **values, **asdict(state.counts)})


def exchange_params() -> list[OpenApiParameter]:
    """Return the parameters of exchange ratios as the schema shows them."""
    found = []
    for name, field in serializers.ExchangeQuestionSerializer().fields.items():
        is_list, kind = name == "to", float if name.endswith("_s") else str
        found.append(
            OpenApiParameter(name, kind, many=is_list, required=field.required, description=str(field.help_text))
        )
    return found


class ExchangeView(Door):
    """What one host of a chip equals in hosts of others, prefill, decode and the whole service apart."""

    rights = {"get": Right("read")}
    buckets = {"get": "run"}  # what is not stored has to be simulated
    own_params = {"get": ("from", "to", "model", "mix", "ttft_p95_s", "tpot_p95_s")}

    @extend_schema(parameters=exchange_params(), responses={200: serializers.ExchangeAnswerSerializer})
    def get(self, request: Request) -> Response:
        """Return the ratios, from stored ratings; chips that are not rated yet are rated now."""
        given = {name: request.query_params.getlist(name) for name in request.query_params if name != "to"}
        if repeated := {name: ["Only one value is taken."] for name, values in given.items() if len(values) > 1}:
            raise ValidationError(repeated)
        asked = serializers.ExchangeQuestionSerializer(
            data={**{name: values[0] for name, values in given.items()}, "to": request.query_params.getlist("to")}
        )
        asked.is_valid(raise_exception=True)
        values = dict(asked.validated_data)
        return Response(exchange_query(from_chip=values.pop("from"), to_chips=values.pop("to"), **values))


def download(text: str, media_type: str, file_name: str) -> HttpResponse:
    """Return text as a file."""
    response = HttpResponse(text, content_type=f"{media_type}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return response


def awaited(view: ReadResource) -> Any:
    """Return the row that a view is about, after it has ended or the time to wait is over."""
    wait_s = wait_read(view.request)
    row = view.get_object()
    if row.has_ended or not wait_s:
        return row
    end_s = time.monotonic() + wait_s
    with waiting_place() as has_place:
        while has_place and not row.has_ended and time.monotonic() < end_s:
            time.sleep(min(LONG_POLL_LOOK_S, max(0.0, end_s - time.monotonic())))
            row = view.get_object()
    return row


def wait_read(request: Request) -> float:
    """Return the seconds that `?wait=` asks for, at most what the server allows."""
    raw = request.query_params.get("wait", "0")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 4:
        raise ValidationError({"wait": ["Seconds are needed, a whole number from 0 to 20."]})
    return min(float(raw), settings.API_WAIT_MAX_S)


@contextmanager
def waiting_place() -> Iterator[bool]:
    """Hold one of the few places for those who wait; False if all are taken, then the answer comes at once."""
    has_place = _waiters.acquire(blocking=False)
    try:
        yield has_place
    finally:
        if has_place:
            _waiters.release()


# --- tokens, the capacity query, the root ---
@extend_schema_view(destroy=extend_schema(responses={204: OpenApiResponse(description="Revoked.")}))
class TokenView(ReadResource):
    """Your own tokens."""

    queryset = Token.objects.all()
    serializer_class = serializers.TokenSerializer
    filters = {"name": "name", "revoked": "revoked", "expires_at": "expires_at", "created_at": "created_at"}
    search = ("name",)
    rights = {"create": Right("admin"), "destroy": Right("admin")}

    def get_queryset(self) -> QuerySet[Token]:
        """Nobody sees the tokens of others."""
        return super().get_queryset().filter(owner_id=self.request.user.pk)

    @extend_schema(responses={201: serializers.TokenMadeSerializer})
    @idempotent(hidden=["secret"])
    def create(self, request: Request) -> Response:
        """Make a token. Its secret is in this answer and nowhere else."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        token, secret = token_make(owner=user_of(request), **serializer.validated_data)
        data = {**self.get_serializer(token).data, "secret": secret}
        return Response(data, status=201, headers={"Location": data["url"]})

    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke a token for good."""
        token_revoke(self.get_object())
        return Response(status=204)


class CapacityQueryView(Door):
    """How many more hosts fit, what stops the next one, how long the fleet lasts: answered at once, without a run."""

    rights = {"post": Right("read")}
    buckets = {"post": "run"}  # it costs as much as a small run

    @extend_schema(
        request=serializers.CapacityQuestionSerializer, responses={200: serializers.CapacityAnswerSerializer}
    )
    def post(self, request: Request) -> Response:
        """Answer a capacity question."""
        asked = serializers.CapacityQuestionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        values = asked.validated_data
        scope = values.get("scope", {})
        question = CapacityQuestion(
            as_of=values["as_of"],
            kind=values["unit"]["host_type"],
            site=scope.get("site"),
            region=scope.get("region"),
            service=values.get("service"),
            quantile=values["quantile"],
        )
        answer = capacity_query_seen(question, user_of(request))
        sources = dict(answer["ratings"])
        uid = sources.pop("catalog")
        job = reverse("api:rating-catalog", kwargs={"uid": uid}, request=request) if uid else None
        return Response({**answer, "ratings": {**sources, "job": job}})


class RootView(Door):
    """Where everything is."""

    names: Mapping[str, str] = {}

    @extend_schema(responses={200: {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}})
    def get(self, request: Request) -> Response:
        """List the addresses."""
        return Response({path: reverse(f"api:{name}", request=request) for path, name in self.names.items()})


class UnknownView(Door):
    """Any other address under /api/: a problem like all others."""

    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """There is nothing here, whoever asks; a forgotten slash is named."""
        hint = ""
        if not request.path.endswith("/"):
            try:
                match = resolve(f"{request.path}/")
                hint = "" if match.url_name == "unknown" else f" Did you mean {request.path}/ ?"
            except Resolver404:
                hint = ""
        raise NotFound(f"There is nothing at {request.path}.{hint}")
