"""Chips and models as the catalog knows them: read only, every figure with unit, range and source."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accelerator import ChipSpec, Figure, ModelSpec, chips_load, models_load
from accelerator.facts import facts_by_item
from api.filters import SHAPING, Param, fields_read
from api.resources import Door


class FigureSerializer(serializers.Serializer[Any]):
    """One fact with its range and where it was read."""

    quantity = serializers.CharField()
    value = serializers.FloatField()
    low = serializers.FloatField(help_text="P10; equal to the value for an exact figure.")
    high = serializers.FloatField(help_text="P90.")
    unit = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # the name is the column's
    confidence = serializers.CharField()
    read_on = serializers.DateField()


class FactSerializer(serializers.Serializer[Any]):
    """One field of a published architecture and where it was read."""

    quantity = serializers.CharField()
    value = serializers.CharField()
    unit = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    read_on = serializers.DateField()


class ItemSerializer(serializers.Serializer[Any]):
    """What chips and models have in common."""

    id = serializers.CharField(required=False)
    url = serializers.URLField(required=False)
    display = serializers.CharField(required=False)
    slug = serializers.CharField(required=False)
    name = serializers.CharField(required=False)


class ChipSerializer(ItemSerializer):
    """A type of accelerator."""

    vendor = serializers.CharField(required=False)
    homegrown = serializers.BooleanField(required=False)
    host_chips = serializers.IntegerField(required=False, help_text="Chips of the usual host. [-]")
    scale_up_chips = serializers.IntegerField(required=False, help_text="Chips of one scale-up domain. [-]")
    figures = FigureSerializer(many=True, required=False)


class LlmModelSerializer(ItemSerializer):
    """A language model."""

    hf_id = serializers.CharField(required=False)
    attention = serializers.CharField(required=False)
    params_total = serializers.FloatField(required=False, help_text="Computed from the fields. [-]")
    params_active = serializers.FloatField(required=False, help_text="That one token multiplies with. [-]")
    kv_byte_per_tok = serializers.FloatField(required=False, help_text="At bf16. [byte/tok]")
    max_context_tok = serializers.IntegerField(required=False, help_text="[tok]")
    native_precision = serializers.CharField(required=False)
    facts = FactSerializer(many=True, required=False)


class CatalogView(Door, viewsets.GenericViewSet[Any]):
    """Entries that come with the product."""

    queryset = None
    serializer_class: type[serializers.Serializer[Any]]
    filters: Mapping[str, str] = {}
    lookup_value_regex = "[a-z0-9][a-z0-9.-]{0,79}"
    lookup_field = "slug"
    filter_backends = ()
    basename = ""

    def items(self) -> Iterable[dict[str, Any]]:
        """Return all entries, by slug."""
        raise NotImplementedError

    def allowed_params(self) -> Iterable[str]:
        """Return the parameters of a list, or of one entry."""
        return (*SHAPING, *(("limit", "offset", "q", *self.filters) if self.verb == "list" else ()))

    def list(self, request: Request) -> Response:
        """Show all that pass the filters."""
        rows = [row for row in self.items() if self._passes(row)]
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(self._shaped(page or []))

    def retrieve(self, request: Request, slug: str) -> Response:
        """Show one."""
        row = next((row for row in self.items() if row["slug"] == slug), None)
        if row is None:
            raise Http404(f"The catalog has no {slug}.")
        return Response(self._shaped([row])[0])

    def _passes(self, row: Mapping[str, Any]) -> bool:
        query = self.request.query_params
        text = query.get("q", "").lower()
        if text and text not in f"{row['slug']} {row['name']}".lower():
            return False
        for name, kind in self.filters.items():
            if name in query:
                param = Param(name, name, kind)
                ((_, wanted),) = param.condition(query.getlist(name)).children  # type: ignore[misc]
                if row[name] not in wanted:
                    return False
        return True

    def _shaped(self, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        names = fields_read(self.request, list(self.serializer_class().fields))
        return rows if names is None else [{name: row[name] for name in names} for row in rows]

    def _common(self, slug: str, name: str) -> dict[str, Any]:
        url = reverse(f"api:{self.basename}-detail", kwargs={"slug": slug}, request=self.request)
        return {"id": slug, "url": url, "display": name, "slug": slug, "name": name}


SEARCH = OpenApiParameter("q", str, description="Text searched in slug and name.")


class ChipView(CatalogView):
    """Types of accelerators."""

    serializer_class = ChipSerializer
    filters = {"slug": "text", "vendor": "text", "homegrown": "boolean"}

    @extend_schema(
        parameters=[
            SEARCH,
            OpenApiParameter("slug", str, many=True),
            OpenApiParameter("vendor", str, many=True),
            OpenApiParameter("homegrown", bool),
        ]
    )
    def list(self, request: Request) -> Response:
        """Show all that pass the filters."""
        return super().list(request)

    def items(self) -> Iterable[dict[str, Any]]:
        """Return every chip with its figures."""
        for chip in chips_load().values():
            yield self._row(chip)

    def _row(self, chip: ChipSpec) -> dict[str, Any]:
        return {
            **self._common(chip.slug, chip.name),
            "vendor": chip.vendor,
            "homegrown": chip.homegrown,
            "host_chips": chip.host_chips,
            "scale_up_chips": chip.scale_up_chips,
            "figures": [figure_dict(name, figure) for name, figure in chip.figures().items()],
        }


class LlmModelView(CatalogView):
    """Language models."""

    serializer_class = LlmModelSerializer
    filters = {"slug": "text", "attention": "text"}

    @extend_schema(
        parameters=[
            SEARCH,
            OpenApiParameter("slug", str, many=True),
            OpenApiParameter("attention", str, many=True),
        ]
    )
    def list(self, request: Request) -> Response:
        """Show all that pass the filters."""
        return super().list(request)

    def items(self) -> Iterable[dict[str, Any]]:
        """Return every model with its facts."""
        facts = facts_by_item("models.csv")
        for model in models_load().values():
            yield self._row(model, facts[model.slug])

    def _row(self, model: ModelSpec, facts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        kept = ("value", "unit", "source", "read_on")
        return {
            **self._common(model.slug, model.name),
            "hf_id": model.hf_id,
            "attention": model.attention,
            "params_total": float(model.params_total),
            "params_active": float(model.params_active),
            "kv_byte_per_tok": model.kv_byte_per_tok(),
            "max_context_tok": model.max_context_tok,
            "native_precision": model.native_precision,
            "facts": [{"quantity": name, **{key: row[key] for key in kept}} for name, row in facts.items()],
        }


def figure_dict(quantity: str, figure: Figure) -> dict[str, Any]:
    """Return a figure with its quantity."""
    return {
        "quantity": quantity,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "unit": figure.unit,
        "source": figure.source,
        "confidence": figure.confidence,
        "read_on": figure.read_on.isoformat(),
    }
