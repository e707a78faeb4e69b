"""How sure a plan is, in words and rows of a result."""

import pytest

from scenarios.plan_promises import draws_ranges, promise_weakest, promises_result
from scenarios.planning.capacity_answer import BandValues, DayBand, PositionBand
from scenarios.planning.problem import problem_read
from scenarios.planning.promises import PromiseAnswer, PromiseRow, SwingRow

NONE = PositionBand()


def problem(**more):
    return problem_read(
        {
            "periods": ["2027-01", "2027-02", "2027-03"],
            "sites": [{"slug": "dc01", "region": "north"}],
            "kinds": [{"slug": "gpu", "homegrown": False}],
            "services": [{"slug": "chat", "region": "north", "demand_tok_s": 100.0, "tier": "gold"}],
            "rates": [{"service": "chat", "kind": "gpu", "tok_s": 10.0}],
            "floors": [{"ratio": 0.5, "period": 1, "region": "north"}, {"ratio": 0.4, "period": 2, "basis": "output"}],
            "domains": [{"slug": "dc01/h1", "lost": [{"place": "dc01"}]}],
            **more,
        }
    )


def answered(*ratios, tornado=(), gpu_free=NONE, last_move=NONE):
    subjects = (
        *(("floor", "0"), ("floor", "1"), ("demand", "chat"), ("tier", "gold"), ("failover", "dc01/h1")),
        *(("peak", "0"), ("peak", "1"), ("peak", "2"), ("everything", "")),
    )
    rows = zip(subjects, ratios, strict=True)
    band = BandValues(0.1, 0.2, 0.3)
    return PromiseAnswer(
        *(200, 1, tuple(PromiseRow(*names, probability_ratio=ratio) for names, ratio in rows)),
        *(band, band, band, band, gpu_free, DayBand(), last_move, DayBand(), tornado),
    )


def result(*ratios, has_waves=True, **more):
    return promises_result(problem(), answered(*ratios, **more), has_waves=has_waves)


def test_every_promise_is_said_in_words():
    rows = result(*(1.0,) * 9)["rows"]
    assert [row["words"] for row in rows] == [
        "at least 50% of tokens of region north are homegrown from 2027-02 on",
        "at least 40% of output tokens are homegrown from 2027-03 on",
        "chat is served all that it demands in every month",
        "all services of tier gold are served all that they demand in every month",
        "gold is still served after the loss of dc01/h1 in every month",
        "nothing goes unserved in the peak hour of 2027-01",
        "nothing goes unserved in the peak hour of 2027-02",
        "nothing goes unserved in the peak hour of 2027-03",
        "all of these hold",
    ]
    assert [row["subject"] for row in rows[:2]] == ["2027-02", "2027-03"]


@pytest.mark.parametrize(
    ("together", "weakest", "said"),
    [
        (1.0, 1.0, "All promises hold in all of 200 futures."),
        (0.5, 0.75, "hold in 50% of 200 futures; the weakest, that gold is still served"),
        (0.0, 0.001, "hold in none of 200 futures; the weakest, that gold is still served"),
    ],
)
def test_the_sentence_names_the_weakest_and_all_together(together, weakest, said):
    found = result(*(1.0,) * 4, weakest, 1.0, 1.0, 1.0, together)
    assert said in found["sentence"]
    assert promise_weakest(found["rows"])["promise"] == ("floor" if weakest == 1 else "failover")
    assert weakest != 0.001 or found["sentence"].endswith("in 1%.")  # nothing but none is said to be none


def test_dates_are_months_and_none_is_beyond_the_horizon():
    bands = {"gpu_free": PositionBand(1.0, 2.0, None), "last_move": PositionBand(0.0, 0.0, 1.0)}
    free, last = result(*(1.0,) * 9, **bands)["dates"]
    assert [free[q] for q in ("p10", "p50", "p90")] == ["2027-02", "2027-03", None]
    assert [last[q] for q in ("p10", "p50", "p90")] == ["2027-01", "2027-01", "2027-02"]
    assert [row["date"] for row in result(*(1.0,) * 9, has_waves=False)["dates"]] == ["gpu_free"]


def test_an_input_that_moves_nothing_is_not_in_the_tornado():
    swings = (SwingRow("demand", -1.0, 2.0, 0.0, 0.0, 0.0, 0.0), SwingRow("failures of gpu", *(0.0,) * 6))
    assert [row["input"] for row in result(*(1.0,) * 9, tornado=swings)["tornado"]] == ["demand"]


@pytest.mark.parametrize("draws", [10, 199, 2000])
def test_steps_share_all_draws_out_evenly(draws):
    ranges = draws_ranges(problem(), draws)
    assert [at for first, last in ranges for at in range(first, last)] == list(range(draws))
    sizes = {last - first for first, last in ranges}
    assert max(sizes) <= 50
    assert max(sizes) - min(sizes) <= 1
