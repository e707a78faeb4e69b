"""A NetBox of two sites and a half, as its REST API shows it, and a server on this machine that speaks that API."""

import itertools
import json
import threading
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

TOKEN = "0123456789abcdef0123456789abcdef01234567"
SITED = ("locations", "racks", "devices", "power-panels", "power-feeds")
LISTS = (
    *("regions", "sites", "locations", "racks", "device-types", "power-port-templates", "interface-templates"),
    *("devices", "power-panels", "power-feeds"),
)


# --- what is in it ----------------------------------------------------------------------------------------------------
class NetBoxData:
    """Lists of objects; one refers to others by what NetBox nests of them."""

    def __init__(self):
        self.lists = {name: [] for name in LISTS}

    def add(self, kind, name, **values):
        number = len(self.lists[kind]) + 1 + 100 * LISTS.index(kind)
        one = {"id": number, "url": f"/api/dcim/{kind}/{number}/", "display": name, "name": name, **values}
        one |= {"tags": [], "custom_fields": {}, "created": "2026-01-01T00:00:00Z"} | values
        self.lists[kind].append(one)
        return one


def nested(one):
    return {key: one[key] for key in ("id", "url", "display", "name", "slug", "model") if key in one}


def choice(value):
    return {"value": value, "label": value.replace("-", " ").title()}


def netbox_data():
    """Two sites with a hall of two rows each, four racks, two feeds a rack, hosts and switches; a laboratory beside."""
    data = NetBoxData()
    asia = data.add("regions", "Asia", slug="asia")
    regions = [data.add("regions", name, slug=name.lower(), parent=nested(asia)) for name in ("North", "South")]
    made = types_add(data)
    for at, (slug, region) in enumerate(zip(("ams01", "fra01"), regions, strict=True)):
        site = data.add(
            *("sites", slug.upper()),
            slug=slug,
            status=choice("active"),
            region=nested(region),
            facility=f"DC {at}",
            time_zone="Europe/Amsterdam",
            custom_fields={"pue_ratio": 1.2, "owner": "li"},
        )
        site_add(data, site, made)
    data.add("sites", "Laboratory", slug="lab", status=choice("active"), region=None)
    return data


def types_add(data):
    maker = {"id": 1, "name": "Inspur", "slug": "inspur", "display": "Inspur"}
    made = {}
    for slug, height, figures in (
        ("h20-8x", 6.0, {"chip": "h20-96", "chips": 8, "idle_w": 1500}),
        ("ppu-16x", 6.0, {}),
        ("switch-64", 1.0, {"chip": None}),
    ):
        made[slug] = data.add(
            *("device-types", slug),
            model=slug.upper(),
            slug=slug,
            manufacturer=maker,
            u_height=height,
            is_full_depth=True,
            weight=130.0,
            weight_unit=choice("kg"),
            custom_fields=figures,
            part_number=f"P-{slug}",
        )
        del made[slug]["name"]
        for number in (1, 2):
            draws = {"maximum_draw": 3500, "allocated_draw": 2800}
            data.add("power-port-templates", f"PSU{number}", device_type=nested(made[slug]), **draws)
            data.add(
                *("interface-templates", f"eth{number}"),
                device_type=nested(made[slug]),
                type=choice("400gbase-x-osfp"),
                mgmt_only=number == 2,
            )
    return made


def site_add(data, site, made):
    hall = data.add(
        "locations", "Hall 1", slug="h1", site=nested(site), parent=None, status=choice("active"), rack_count=2
    )
    panels = [data.add("power-panels", f"PDU {side}", site=nested(site), location=nested(hall)) for side in "AB"]
    for row in ("A", "B"):
        place = data.add(
            *("locations", f"Row {row}"),
            slug=f"row-{row.lower()}",
            site=nested(site),
            parent=nested(hall),
            status=choice("active"),
        )
        rack = data.add(
            *("racks", f"{row}1"),
            site=nested(site),
            location=nested(place),
            status=choice("active"),
            u_height=48,
            starting_unit=1,
            desc_units=False,
            max_weight=1000,
            weight_unit=choice("kg"),
            width=choice("19"),
            tenant={"id": 1, "name": "Cloud", "slug": "cloud", "display": "Cloud"},
        )
        for panel in panels:
            data.add(
                *("power-feeds", f"Feed {panel['name'][-1]}"),
                power_panel=nested(panel),
                rack=nested(rack),
                status=choice("active"),
                type=choice("primary" if panel is panels[0] else "redundant"),
                supply=choice("ac"),
                phase=choice("three-phase"),
                voltage=415,
                amperage=63,
                max_utilization=80,
                available_power=36227,
                cable={"id": 7, "display": "#7"},
            )
        for number, kind in enumerate(("h20-8x", "h20-8x", "ppu-16x", "switch-64")):
            data.add(
                *("devices", f"{kind[:3]}-{row.lower()}1-{number}"),
                device_type=nested(made[kind]),
                role={"id": 1, "name": "Inference", "slug": "inference"},
                site=nested(site),
                location=nested(place),
                rack=nested(rack),
                position=1.0 + 6 * number,
                face=choice("front"),
                status=choice("active"),
                serial=f"S{site['slug']}{row}{number}",
                primary_ip={"id": 1, "address": "10.0.0.1/24"},
                primary_ip4={"id": 1, "address": "10.0.0.1/24"},
                asset_tag=None,
                config_context={"ntp": ["10.0.0.9"]},
                custom_fields={"lease": "L-1"},
            )


# --- the server -------------------------------------------------------------------------------------------------------
class NetBoxServer(ThreadingHTTPServer):
    """Answers as NetBox does; `script` holds what the next requests of a list get instead, in turn.

    An item of a script is a status with headers and a body, a text as the address of the next page, or None: an
    answer as always.
    """

    daemon_threads = True

    def __init__(self, data, *, token=TOKEN, page_most=1000):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data, self.token, self.page_most = data, token, page_most
        self.script = {}
        self.asked = []
        self.seen = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"

    def page(self, kind, query):
        """Return a page of a list: filtered, from an offset on, with the addresses of its neighbours."""
        found = [self.absolute(one) for one in deepcopy(self.data.lists[kind])]
        if "slug" in query:
            found = [one for one in found if one["slug"] == query["slug"]]
        if "site" in query:
            panels = {one["id"]: one["site"]["slug"] for one in self.data.lists["power-panels"]}
            site_of = (
                (lambda one: panels[one["power_panel"]["id"]])
                if kind == "power-feeds"
                else (lambda one: one["site"]["slug"])
            )
            found = [one for one in found if site_of(one) == query["site"]]
        limit, offset = min(int(query.get("limit", 50)), self.page_most), int(query.get("offset", 0))

        def address(at):
            return f"{self.url}api/dcim/{kind}/?{urlencode({**query, 'limit': limit, 'offset': at})}"

        return {
            "count": len(found),
            "next": address(offset + limit) if offset + limit < len(found) else None,
            "previous": address(max(0, offset - limit)) if offset else None,
            "results": found[offset : offset + limit],
        }

    def absolute(self, one):
        """Return an object with whole addresses."""
        return {**one, "url": f"{self.url.rstrip('/')}{one['url']}"}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlsplit(self.path)
        kind = parts.path.removeprefix("/api/dcim/").rstrip("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append((kind, query))
        given = self.headers.get("Authorization", "")
        self.server.seen.append(given)
        scheme = "Bearer" if self.server.token.startswith("nbt_") else "Token"
        if given != f"{scheme} {self.server.token}":
            self.answer(403, {"detail": "Invalid token"})
            return
        if kind not in self.server.data.lists:
            self.answer(404, {"detail": "No such page"})
            return
        script = self.server.script.get(kind)
        step = next(script, None) if script else None
        if isinstance(step, tuple):
            self.answer(step[0], step[2], **step[1])
            return
        page = self.server.page(kind, query)
        self.answer(200, page | {"next": step} if isinstance(step, str) else page)

    def answer(self, status, body, **headers):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def netbox_serving(data, **options):
    """Serve a NetBox on this machine while inside."""
    server = NetBoxServer(data, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def for_ever(step):
    """Return a script of one step again and again."""
    return itertools.repeat(step)
