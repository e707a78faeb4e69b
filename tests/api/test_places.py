"""What the pages of the fleet show, over REST."""

import re
from datetime import date

import pytest

from fleet.models import (
    CoolingLink,
    CoolingNode,
    Delivery,
    Deployment,
    Endpoint,
    FirmwareBaseline,
    FirmwareSet,
    Host,
    HostType,
    NetworkLink,
    NetworkNode,
    Order,
    Placement,
    PolicyEvent,
    PowerLink,
    PowerNode,
    Region,
    RegionLimit,
    Retirement,
)
from fleet.services import row_save, rows_write
from tests.api.conftest import assert_problem, client_of, user_make
from tests.api.rows import region_fill
from tests.conftest import ROOT
from tests.factories import fleet_rows

ROOT_PATH = "/api/v1/"
AT = {"at": "2027-01-01"}
NAMES = ("fits", "power-loads", "cooling-loads", "blast-radius", "rack-loads", "timeline")
FEED = {"kind": "feed", "voltage_v": 415, "current_a": 63}
POWER = {
    "pdu-a": ((), {"kind": "pdu", "rating_va": 100e3}),
    "pdu-b": ((), {"kind": "pdu", "rating_va": 80e3}),
    "feed-a": (("pdu-a",), FEED),
    "feed-b": (("pdu-b",), FEED),
    "single": (("pdu-a",), FEED),
}


@pytest.fixture
def fed(db):
    """Rack dc01-a1 with eight hosts of 7 kW on two feeds, dc01-a2 with one on one feed; each serves 1,000 tok/s."""
    made = fleet_rows(hosts=6)
    site, racks = made["site"], made["racks"]
    Host.objects.all().delete()
    kind = HostType.objects.create(
        slug="seven", name="Seven", chip="h20-96", chips=8, height_u=6, power_w=7000, idle_w=1000, source="test"
    )
    hosts = [Host(slug=f"h-{at}", host_type=kind, rack=racks[0], position_u=1 + 6 * at) for at in range(8)]
    hosts.append(Host(slug="lone", host_type=kind, rack=racks[1], position_u=1))
    rows_write(Host, create=hosts)
    racks_of = {"feed-a": racks[0], "feed-b": racks[0], "single": racks[1]}
    nodes = {
        name: row_save(PowerNode(slug=name, site=site, rack=racks_of.get(name), **values))
        for name, (_, values) in POWER.items()
    }
    for name, (sources, _) in POWER.items():
        for source in sources:
            row_save(PowerLink(node=nodes[name], source=nodes[source]))
    unit, loop = (row_save(CoolingNode(slug=f"{one}-1", site=site, kind=one, limit_w=70e3)) for one in ("cdu", "loop"))
    row_save(CoolingLink(node=unit, source=loop))
    spine = row_save(NetworkNode(slug="spine-1", site=site, kind="spine"))
    for at, rack in enumerate(racks):
        rack.cooling_node = unit
        row_save(rack)
        tor = row_save(NetworkNode(slug=f"tor-{at}", site=site, kind="tor", rack=rack))
        row_save(NetworkLink(node=tor, source=spine))
    endpoint = Endpoint.objects.create(slug="chat-dc01", service=made["service"], site=site)
    deployment = Deployment.objects.create(
        slug="chat-dc01-seven", endpoint=endpoint, host_type=kind, config="tp8", replica_chips=8, replica_tok_s=1000
    )
    for host in hosts:
        Placement.objects.create(deployment=deployment, host=host)
    return {**made, "kind": kind}


def asked(client, name, **params):
    """Return the answer to a question, which must be one."""
    answer = client.get(f"{ROOT_PATH}{name}/", {**({} if name == "timeline" else AT), **params})
    assert answer.status_code == 200, answer.content
    return answer.json()


def questions(**params):
    """Yield each resource with its day, or days, and parameters."""
    for name in NAMES:
        days = {"from": "2026-10-01", "to": "2028-10-01"} if name == "timeline" else AT
        yield name, {**days, **({"site": "dc01"} if name == "blast-radius" else {}), **params}


# --- how many more fit ------------------------------------------------------------------------------------------------
def test_fits_counts_hosts_of_a_type_and_says_what_stops_the_next(client, fed):
    body = asked(client, "fits", host_type="seven")
    (row,) = body["results"]
    # rack a1 is full and over on its feeds; of a2, 40 kW less 7 leave 4, and its single feed of 36.2 kVA as many
    assert (row["host_type"], row["fits"], row["racks"]) == ("seven", 1, 2)  # the loop bears 70 of 63 kW: one more
    assert sum(stop["racks"] for stop in row["stops"]) == 2
    assert {stop["site"] for stop in row["stops"]} == {"dc01"}
    assert body["at"] == "2027-01-01"
    assert len(body["snapshot_digest"]) == 64


def test_fits_grows_when_what_stops_it_does(client, fed):
    for node in CoolingNode.objects.all():
        node.limit_w = 200e3
        row_save(node)
    row = asked(client, "fits", host_type="seven", rack="dc01-a2")["results"][0]
    # PDU A bears 80 kVA; without PDU B it has 56 kVA of rack a1 and 7 of a2: two more
    stop = {"site": "dc01", "constraint": "power_node_failover", "object": "pdu-a", "failure": "pdu-b", "racks": 1}
    assert (row["fits"], row["racks"], row["stops"]) == (2, 1, [stop])
    pdu = PowerNode.objects.get(slug="pdu-a")
    pdu.rating_va = 200e3
    row_save(pdu)
    assert asked(client, "fits", host_type="seven", rack="dc01-a2")["results"][0]["fits"] == 4  # 40 kW less 7


def test_hosts_are_placed_into_racks_as_far_as_they_fit(client, fed):
    for node in CoolingNode.objects.all():
        node.limit_w = 1e6
        row_save(node)
    for wanted in (1, 2, 9):
        (row,) = asked(client, "fits", host_type="seven", hosts=wanted)["results"]
        assert row["fits"] == 2  # with its sister lost, pdu-a bears 63 of 80 kVA already
        assert row["placing"] == [{"site": "dc01", "rack": "dc01-a2", "hosts": min(wanted, 2)}]
    assert asked(client, "fits", host_type="seven", rack="dc01-a1", hosts=2)["results"][0]["placing"] == []


@pytest.mark.parametrize(
    "params", [{"hosts": "0", "host_type": "seven"}, {"hosts": "many", "host_type": "seven"}, {"hosts": "2"}]
)
def test_a_number_of_hosts_is_of_one_type(client, fed, params):
    problem = assert_problem(client.get(f"{ROOT_PATH}fits/", {**AT, **params}), 400)
    assert {error["field"] for error in problem["errors"]} == {"hosts"}


def test_fits_without_a_type_is_about_every_one_each_alone(client, fed):
    rows = asked(client, "fits", site="dc01")["results"]
    assert [row["host_type"] for row in rows] == sorted(HostType.objects.values_list("slug", flat=True))
    one = asked(client, "fits", site="dc01", host_type="seven")["results"][0]
    assert one in rows
    for scope in ({"region": "north"}, {"hall": "dc01/h1"}, {"row": "dc01/h1/a"}):
        assert asked(client, "fits", **scope)["results"] == rows


def test_fits_in_a_hall_without_racks_are_none(client, fed):
    fed["site"].halls.create(slug="h9", name="Empty")
    row = asked(client, "fits", hall="dc01/h9", host_type="seven")["results"][0]
    assert row == {"host_type": "seven", "fits": 0, "racks": 0, "stops": [], "stops_left_out": 0, "placing": None}


def test_fits_shows_the_stops_of_most_racks_and_counts_the_rest(client, fed, monkeypatch):
    whole = asked(client, "fits", host_type="seven")["results"][0]
    assert (len(whole["stops"]), whole["stops_left_out"]) == (2, 0)
    monkeypatch.setattr("api.places.STOPS_MOST", 1)
    cut = asked(client, "fits", host_type="seven")["results"][0]
    assert (cut["stops"], cut["stops_left_out"]) == (whole["stops"][:1], 1)


# --- loads ------------------------------------------------------------------------------------------------------------
def test_power_loads_have_the_load_after_the_worst_failure_the_fullest_first(client, fed):
    body = asked(client, "power-loads")
    rows = {row["slug"]: row for row in body["results"]}
    assert body["count"] == len(POWER) == len(rows)
    assert [row["slug"] for row in body["results"][:2]] == ["feed-a", "feed-b"]  # equal shares: by name
    feed = rows["feed-a"]
    assert (feed["now_va"], feed["worst_va"], feed["worst_failure"]) == (28_000, 56_000, "feed-b")
    assert feed["usable_va"] == pytest.approx(36_227, abs=1)
    assert feed["share_ratio"] == pytest.approx(1.546, abs=1e-3)
    assert feed["headroom_va"] == pytest.approx(36_227 - 56_000, abs=1)
    pdu = rows["pdu-b"]
    assert (pdu["kind"], pdu["site"], pdu["now_va"], pdu["worst_va"]) == ("pdu", "dc01", 28_000, 56_000)
    assert pdu["stranded_va"] == pytest.approx(8_000)  # rack dc01-a1 takes nothing more
    assert pdu["stranded_why"] == "racks_below"
    shares = [row["share_ratio"] for row in asked(client, "power-loads", ordering="share_ratio")["results"]]
    assert shares == sorted(shares)


def test_cooling_loads_are_in_watts_and_unknown_limits_are_null(client, fed):
    CoolingNode.objects.filter(slug="loop-1").update(limit_w=None)
    rows = {row["slug"]: row for row in asked(client, "cooling-loads", site="dc01")["results"]}
    assert (rows["cdu-1"]["now_w"], rows["cdu-1"]["usable_w"], rows["cdu-1"]["share_ratio"]) == (63_000, 70_000, 0.9)
    loop = rows["loop-1"]
    assert (loop["now_w"], loop["usable_w"], loop["headroom_w"], loop["share_ratio"]) == (63_000, None, None, None)
    assert (loop["worst_failure"], loop["stranded_why"]) == ("", None)


def test_rack_loads_name_every_limit_and_the_nearest(client, fed):
    body = asked(client, "rack-loads", row="dc01/h1/a")
    first, second = body["results"]
    assert (first["slug"], first["hosts"], first["nearest"]) == ("dc01-a1", 8, "feed_failover_power")
    assert (second["slug"], second["hosts"]) == ("dc01-a2", 1)
    limits = {limit["limit"]: limit for limit in first["limits"]}
    assert limits["rack_units"] == {
        "limit": "rack_units",
        "unit": "U",
        "load": 48,
        "most": 48,
        "share_ratio": 1,
        "node": "",
        "failure": "",
    }
    feed = limits["feed_failover_power"]
    assert (feed["unit"], feed["load"], {feed["node"], feed["failure"]}) == ("VA", 56_000, {"feed-a", "feed-b"})
    assert feed["share_ratio"] == first["share_ratio"] == pytest.approx(1.546, abs=1e-3)
    assert (limits["weight"]["most"], limits["weight"]["share_ratio"]) == (None, None)
    slugs = [row["slug"] for row in asked(client, "rack-loads", ordering="-slug")["results"]]
    assert slugs == ["dc01-a2", "dc01-a1"]


# --- what is lost -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asks", "racks", "hosts", "runs_on"),
    [
        ({"power_node": "pdu-a"}, 1, 1, (1, 8)),  # rack a1 runs on by feed B
        ({"power_node": "pdu-b"}, 0, 0, (1, 8)),
        ({"cooling_node": "loop-1"}, 2, 9, (0, 0)),
        ({"network_node": "tor-0"}, 1, 8, (0, 0)),
        ({"region": "north"}, 2, 9, (0, 0)),
        ({"site": "dc01"}, 2, 9, (0, 0)),
        ({"hall": "dc01/h1"}, 2, 9, (0, 0)),
        ({"row": "dc01/h1/a"}, 2, 9, (0, 0)),
        ({"rack": "dc01-a1"}, 1, 8, (0, 0)),
        ({"host": "h-3"}, 0, 1, (0, 0)),
    ],
)
def test_a_blast_radius_says_what_goes_and_what_runs_on(client, fed, asks, racks, hosts, runs_on):
    body = asked(client, "blast-radius", **asks)
    assert (body["racks_lost"], body["hosts_lost"], body["replicas_lost"]) == (racks, hosts, hosts)
    assert body["replicas_before"] == 9
    assert body["power_lost_w"] == hosts * 7000
    assert (body["runs_on"]["racks"], body["runs_on"]["hosts"]) == runs_on
    (tier,) = body["tiers"]
    assert (tier["before_tok_s"], tier["lost_tok_s"]) == (9000, hosts * 1000)
    assert (tier["replicas_before"], tier["replicas_lost"]) == (9, hosts)
    assert (body["count"], len(body["results"])) == (hosts, hosts)


def test_the_hosts_lost_come_page_by_page(client, fed):
    body = asked(client, "blast-radius", rack="dc01-a1", limit=3, offset=6)
    assert [row["slug"] for row in body["results"]] == ["h-6", "h-7"]
    assert body["results"][0] == {
        "slug": "h-6",
        "host_type": "seven",
        "rack": "dc01-a1",
        "row": "dc01/h1/a",
        "site": "dc01",
    }
    assert (body["count"], body["next"]) == (8, None)
    assert "offset=3" in body["previous"]


@pytest.mark.parametrize("days", [{"out_of_service_on": "2027-01-01"}, {"in_service_on": "2027-01-02"}])
def test_what_does_not_stand_on_the_day_cannot_fail(client, fed, days):
    PowerNode.objects.create(slug="away", site=fed["site"], kind="pdu", rating_va=1e4, **days)
    body = assert_problem(client.get(f"{ROOT_PATH}blast-radius/", {**AT, "power_node": "away"}), 400)
    assert [error["message"] for error in body["errors"]] == ["'away' does not stand on 2027-01-01."]


def test_exactly_one_thing_fails(client, fed):
    body = assert_problem(client.get(f"{ROOT_PATH}blast-radius/"), 400)
    assert "One of these is needed: power_node," in body["errors"][0]["message"]
    body = assert_problem(client.get(f"{ROOT_PATH}blast-radius/", {"site": "dc01", "rack": "dc01-a1"}), 400)
    assert {error["field"] for error in body["errors"]} == {"site", "rack"}


# --- timeline ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def dated(fed):
    site, kind = fed["site"], fed["kind"]
    order = Order.objects.create(
        slug="o-1", supplier="Maker", host_type=kind, quantity=12, ordered_on=date(2026, 12, 1)
    )
    supply = {"site": site, "host_type": kind}
    slip = {"slip_p50_days": 20, "slip_p90_days": 40}
    Delivery.objects.create(slug="d-1", order=order, quantity=12, expected_on=date(2027, 3, 1), **slip, **supply)
    Retirement.objects.create(slug="r-1", quantity=3, retire_on=date(2027, 6, 1), **supply)
    values = {"chip": "h20-96", "verb": "buy", "source": "rule 7"}
    PolicyEvent.objects.create(slug="p-1", starts_on=date(2027, 4, 1), ends_on=date(2027, 5, 1), **values)
    firmware = FirmwareSet.objects.create(slug="fw-9", chip="h20-96", rank=9)
    FirmwareBaseline.objects.create(slug="b-1", firmware=firmware, starts_on=date(2027, 5, 1), region=fed["region"])
    return fed


def test_the_timeline_is_one_list_in_time(client, dated):
    rows = asked(client, "timeline", **{"from": "2026-11-01", "to": "2027-12-31", "site": "dc01"})["results"]
    assert [(row["kind"], row["slug"], row["on"]) for row in rows] == [
        ("order", "o-1", "2026-12-01"),
        ("delivery", "d-1", "2027-03-01"),
        ("policy", "p-1", "2027-04-01"),
        ("firmware", "b-1", "2027-05-01"),
        ("retirement", "r-1", "2027-06-01"),
    ]
    delivery = rows[1]
    assert delivery["expected"] == {"p10_on": "2027-03-11", "p50_on": "2027-03-21", "p90_on": "2027-04-10"}
    assert (delivery["site"], delivery["region"], delivery["host_type"], delivery["quantity"]) == (
        *("dc01", "north"),
        *("seven", 12),
    )
    assert rows[2]["until"] == "2027-04-30"
    assert rows[0]["expected"] is None
    for row in rows:
        assert client.get(row["url"]).json()["slug"] == row["slug"]


def test_a_window_holds_what_touches_it(client, dated):
    window = {"from": "2027-04-05", "to": "2027-04-20"}
    assert [row["slug"] for row in asked(client, "timeline", **window)["results"]] == ["d-1", "p-1"]
    body = assert_problem(client.get(f"{ROOT_PATH}timeline/", {"from": "2027-04-05", "to": "2027-04-04"}), 400)
    assert body["errors"][0]["field"] == "to"
    body = assert_problem(client.get(f"{ROOT_PATH}timeline/", {"from": "2001-01-01", "to": "2040-04-04"}), 400)
    assert "120 months" in body["errors"][0]["message"]


# --- what all of them have in common ----------------------------------------------------------------------------------
def test_an_unknown_parameter_is_an_error_that_names_it(client, fed):
    for name, params in questions(colour="red"):
        body = assert_problem(client.get(f"{ROOT_PATH}{name}/", params), 400)
        assert [error["field"] for error in body["errors"]] == ["colour"], name


@pytest.mark.parametrize("day", ["2027-02-30", "tomorrow", "1999-12-31", "2100-01-02"])
def test_a_day_that_is_none_or_out_of_reach_is_an_error(client, fed, day):
    for name, params in questions():
        field = "from" if name == "timeline" else "at"
        body = assert_problem(client.get(f"{ROOT_PATH}{name}/", {**params, field: day}), 400)
        assert [error["field"] for error in body["errors"]] == [field], name


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fits", {"host_type": "nothing"}),
        ("fits", {"rack": "nothing"}),
        ("fits", {"hall": "dc01"}),
        ("power-loads", {"site": "nothing"}),
        ("cooling-loads", {"region": "nothing"}),
        ("rack-loads", {"row": "dc01/h1/z"}),
        ("blast-radius", {"network_node": "pdu-a"}),
        ("blast-radius", {"scale_up_domain": "nothing"}),
        ("timeline", {"site": "nothing"}),
        ("power-loads", {"ordering": "colour"}),
        ("rack-loads", {"limit": "0"}),
    ],
)
def test_what_there_is_not_is_an_error_that_names_its_parameter(client, fed, name, params):
    body = assert_problem(client.get(f"{ROOT_PATH}{name}/", params), 400)
    assert {error["field"] for error in body["errors"]} == set(params)


def test_a_parameter_that_is_one_is_given_once(client, fed):
    for name, params in questions():
        body = assert_problem(client.get(f"{ROOT_PATH}{name}/", {**params, "site": ["dc01", "dc01"]}), 400)
        assert body["errors"][0]["message"] == "Only one value is taken."
    body = assert_problem(client.get(f"{ROOT_PATH}power-loads/", {"ordering": ["slug", "-slug"]}), 400)
    assert body["errors"][0]["field"] == "ordering"


def test_an_answer_has_an_etag_that_changes_with_the_fleet_and_the_question(client, dated):
    tags = {}
    for name, params in questions():
        path = f"{ROOT_PATH}{name}/"
        tags[name] = client.get(path, params)["ETag"]
        same = client.get(path, params, headers={"If-None-Match": tags[name]})
        assert (same.status_code, same.content, same["ETag"]) == (304, b"", tags[name]), name
        other = {"to": "2027-01-01"} if name == "timeline" else {"at": "2027-01-02"}
        assert client.get(path, {**params, **other}, headers={"If-None-Match": tags[name]}).status_code == 200, name
    host, order = Host.objects.get(slug="lone"), Order.objects.get()
    host.position_u, order.quantity = 9, 13
    row_save(host)
    row_save(order)
    for name, params in questions():
        answer = client.get(f"{ROOT_PATH}{name}/", params, headers={"If-None-Match": tags[name]})
        assert answer.status_code == 200, name


@pytest.fixture
def limited(roles, db):
    """Two regions with a row of every kind each, and a client that sees the first."""
    rows = {tag: region_fill(tag) for tag in ("north", "south")}
    user = user_make("limited", "viewer")
    RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug="north"))
    return client_of(user), rows


def test_what_lies_elsewhere_is_as_if_it_were_not_there(client, limited):
    inside, _ = limited
    for name, params in questions(site="north-0-dc"):
        path = f"{ROOT_PATH}{name}/"
        assert inside.get(path, params).status_code == 200, name
        everywhere = {**params} if name == "blast-radius" else {one: params[one] for one in params if one != "site"}
        found = inside.get(path, everywhere).json()["results"]
        if name == "fits":  # host types, as orders below, lie nowhere: everybody sees them
            found = [stop for row in found for stop in row["stops"]]
        said = str([row for row in found if row.get("kind") != "order"])
        assert "north" in said, name
        assert "south" not in said, name
        foreign = {**params, "site": "south-0-dc"}
        assert client.get(path, foreign).status_code == 200, name
        hidden = assert_problem(inside.get(path, foreign), 400)["errors"][0]["message"]
        missing = assert_problem(inside.get(path, {**params, "site": "nothing"}), 400)["errors"][0]["message"]
        assert hidden.replace("south-0-dc", "nothing") == missing


def test_nothing_elsewhere_can_be_made_to_fail(client, limited):
    inside, rows = limited
    south = rows["south"]
    for param, key in {
        "region": "south",
        "site": "south-0-dc",
        "hall": "south-0-dc/h1",
        "row": "south-0-dc/h1/a",
        "rack": south["racks"][0].slug,
        "host": south["hosts"][0].slug,
        "scale_up_domain": south["scale-up-domains"][0].slug,
        "power_node": south["power-nodes"][0].slug,
        "cooling_node": south["cooling-nodes"][0].slug,
        "network_node": south["network-nodes"][0].slug,
    }.items():
        assert client.get(f"{ROOT_PATH}blast-radius/", {**AT, param: key}).status_code == 200, param
        assert_problem(inside.get(f"{ROOT_PATH}blast-radius/", {**AT, param: key}), 400)


def test_the_examples_of_the_document_are_answered(client, fed):
    text = (ROOT / "docs" / "api.md").read_text().split("## The fleet on a day")[1].split("\n## ")[0]
    paths = [path for path in re.findall(r"/api/v1/([^\s\"]+)", text) if "?" in path]
    assert sorted(path.split("/")[0] for path in paths) == sorted(NAMES)
    for path in paths:
        assert client.get(f"{ROOT_PATH}{path}").status_code == 200, path
