"""The page of readiness: the gates of model families on chips."""

import html
import re
from datetime import date

import pytest

from dashboard.readiness import grid_of
from fleet.models import Gate

PATH = "/readiness/"
PASSED = {"state": "passed", "decided_on": date(2027, 1, 4), "evidence": "72 h, 0 hangs", "signed_by": "Wang"}


def words_of(answer):
    body = re.sub(r"<[^>]+>", " ", html.unescape(answer.content.decode()).split("<main", 1)[1])
    return re.sub(r"\s+", " ", body)


@pytest.fixture
def gates(db):
    """qwen3 has passed all on one chip, on another it fails G5 and the rest is not recorded; glm has one open gate."""
    names = [name for name, _ in Gate.Number.choices]
    for name in names:
        Gate.objects.create(family="qwen3", chip="ascend-910c", gate=name, owner="Li", **PASSED)
    for name in names[:4]:
        Gate.objects.create(family="qwen3", chip="thead-ppu-810e", gate=name, **PASSED)
    values = {"state": "failed", "expected_on": date(2027, 6, 1), "owner": "Zhao", "evidence": "P95 71 ms of 50 ms"}
    Gate.objects.create(family="qwen3", chip="thead-ppu-810e", gate="G5", **values)
    Gate.objects.create(family="glm-4-5", chip="thead-ppu-810e", gate="G1")


def test_the_grid_has_a_row_for_each_pair_and_a_word_for_each_gate(pages, gates):
    answer = pages.get(PATH)
    pairs = {(pair.family, pair.chip): pair for pair in answer.context["grid"].pairs}
    assert list(pairs) == [("glm-4-5", "thead-ppu-810e"), ("qwen3", "ascend-910c"), ("qwen3", "thead-ppu-810e")]
    assert [cell.state for cell in pairs["qwen3", "thead-ppu-810e"].cells] == [
        *["passed"] * 4,
        *("failed", "not recorded", "not recorded", "not recorded"),
    ]
    assert [(pair.passed, pair.is_ready) for pair in pairs.values()] == [(0, False), (8, True), (4, False)]
    page = words_of(answer)
    assert "P95 71 ms of 50 ms; expected on 2027-06-01; owner Zhao" in page
    assert "72 h, 0 hangs; decided on 2027-01-04; signed by Wang" in page
    assert "No evidence, day or owner yet" in page
    assert ' style="' not in answer.content.decode()


def test_the_gate_that_blocks_most_is_named(pages, gates):
    grid = grid_of(Gate.objects.all())
    assert grid.sentence == (
        "1 of 3 pairs of model family and chip have passed all 8 gates; "
        "G5 (latency promise at target load) blocks most: 2 have not passed it."
    )
    assert grid.totals[4].counts == [
        ("passed", 1),
        ("experimental", 0),
        ("failed", 1),
        ("not tested", 0),
        ("not recorded", 1),
    ]
    assert grid_of(Gate.objects.filter(chip="ascend-910c")).sentence == (
        "1 of 1 pairs of model family and chip have passed all 8 gates."
    )


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        ({"family": "glm-4-5"}, 1),
        ({"chip": "thead-ppu-810e"}, 2),
        ({"state": "failed"}, 1),
        ({"gate": "G1", "state": "passed"}, 2),
        ({"gate": "G6"}, 1),
        ({"family": "glm-4-5", "state": "failed"}, 0),
    ],
)
def test_pairs_are_narrowed_and_keep_all_their_gates(pages, gates, asked, pairs):
    answer = pages.get(PATH, asked)
    assert len(answer.context["grid"].pairs) == pairs
    if pairs:
        assert all(len(pair.cells) == 8 for pair in answer.context["grid"].pairs)
    else:
        assert "No pair of model family and chip has such a gate" in words_of(answer)
    table = pages.get(f"{PATH}gates.csv", asked).content.decode().splitlines()
    assert len(table) == 1 + 8 * pairs


def test_the_table_has_evidence_owner_day_and_who_signed(pages, gates):
    table = pages.get(f"{PATH}gates.csv", {"chip": "ascend-910c"}).content.decode().splitlines()
    assert table[0].startswith("family,chip,gate,about,state,evidence,owner,decided_on,signed_by,expected_on")
    assert table[1].startswith("qwen3,ascend-910c,G1,loads in memory at an allowed precision,passed,")
    assert table[1].endswith('"72 h, 0 hangs",Li,2027-01-04,Wang,')


@pytest.mark.parametrize("asked", [{"family": "nobody"}, {"chip": "none"}, {"gate": "G9"}, {"state": "green"}])
def test_what_there_is_not_is_400(pages, gates, asked):
    answer = pages.get(PATH, asked)
    assert answer.status_code == 400
    assert "is not one of the available choices" in words_of(answer)
    assert pages.get(f"{PATH}gates.csv", asked).status_code == 400


def test_without_a_gate_the_page_says_how_they_come(pages):
    assert "No gate is recorded yet; the list of gates takes them" in words_of(pages.get(PATH))


def test_every_link_leads_somewhere_and_the_cost_does_not_grow(pages, gates, django_assert_max_num_queries):
    page = html.unescape(pages.get(PATH).content.decode())
    addresses = {found for found in re.findall(r'href="(/[^"]*)"', page) if not found.startswith("/static/")}
    assert any("/fleet/lists/gates/?family=qwen3&chip=ascend-910c" in address for address in addresses)
    for address in sorted(addresses):
        assert pages.get(address).status_code == 200, address
    with django_assert_max_num_queries(8):
        pages.get(PATH)
