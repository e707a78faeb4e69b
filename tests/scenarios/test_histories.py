import gzip
import io
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fleet.files import FileError
from scenarios.histories import History, HistoryError, history_of_arrivals, history_of_windows
from scenarios.history_files import HistoryFaultsError, history_read, moment_of

START_S = 1_798_761_600  # 2027-01-01T00:00Z
START = datetime(2027, 1, 1, tzinfo=UTC)
HEAD = "window_start_s,rate_rps,top_client_share"


def history(rates, window_s=600, **columns):
    arrays = {name: np.array(values, dtype=float) for name, values in columns.items()}
    return History(START_S, window_s, np.array(rates, dtype=float), **arrays)


def read(text, *, name="rates.csv", starts_at=START, window_s=None):
    return history_read(io.BytesIO(text.encode()), name, starts_at=starts_at, window_s=window_s)


def faults_of(text, **options):
    with pytest.raises(HistoryFaultsError) as caught:
        read(text, **options)
    return [(one.line, one.column, one.reason) for one in caught.value.faults]


# --- the arrays ---
def test_hours_are_means_of_known_windows_and_less_than_half_an_hour_is_not_known():
    nan = np.nan
    hourly = history([6, 6, 6, 12, 12, 12, 3, nan, nan, nan, nan, nan, 1, 2, 3, nan, nan, nan]).hourly()
    assert_allclose(hourly.request_s, [9, nan, 2])
    assert hourly.window_s == 3600


def test_hours_begin_at_whole_hours():
    later = History(START_S + 1800, 600, np.full(6, 5.0)).hourly()
    assert later.start_s == START_S
    assert_allclose(later.request_s, [5, 5])


def test_means_are_over_requests_and_of_cache_hits_over_prompt_tokens():
    found = history([1, 3, np.nan], input_tok=[100, 200, 9], cache_hit_ratio=[0.1, 0.5, 0.9])
    assert found.mean_of("input_tok") == pytest.approx((100 + 3 * 200) / 4)
    assert found.mean_of("cache_hit_ratio") == pytest.approx((100 * 0.1 + 600 * 0.5) / 700)
    assert found.mean_of("top_client_ratio") is None


def test_arrays_come_back_from_bytes_with_the_same_digest():
    first = history([1, np.nan, 3], top_client_ratio=[0.5, np.nan, 0.4])
    assert History.from_bytes(first.to_bytes()).digest == first.digest
    assert history([1, np.nan, 3.0001]).digest != history([1, np.nan, 3]).digest
    with pytest.raises(HistoryError, match="not a stored history"):
        History.from_bytes(b"nothing")


def test_later_windows_replace_those_of_the_same_time_and_gaps_stay_unknown():
    first = history([1, 2, 3], top_client_ratio=[0.1, 0.2, 0.3])
    later = History(START_S + 2 * 600, 600, np.array([30.0, np.nan, 5.0]))
    joined = first.joined(later)
    assert_allclose(joined.request_s, [1, 2, 30, np.nan, 5])
    assert_allclose(joined.top_client_ratio, [0.1, 0.2, np.nan, np.nan, np.nan])
    with pytest.raises(HistoryError, match="do not go on with windows of 600 s"):
        first.joined(History(START_S, 3600, np.ones(2)))


def test_recorded_requests_are_counted_in_whole_windows():
    found = history_of_arrivals(
        np.array([0.0, 10, 59.9, 60, 130]),
        np.array([10.0, 20, 30, 40, 50]),
        np.array([1.0, 2, 3, 4, 5]),
        start_s=START_S,
        window_s=60,
    )
    assert_allclose(found.request_s, [3 / 60, 1 / 60])
    assert_allclose(found.input_tok, [20, 40])
    with pytest.raises(HistoryError, match="do not fill one window"):
        history_of_arrivals(np.array([1.0]), np.ones(1), np.ones(1), start_s=START_S, window_s=60)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"window_s": 7000}, "windows of 7000 s"),
        ({"window_s": 30}, "windows of 30 s"),
        ({"start_s": START_S + 1}, "whole number of windows"),
        ({"start_s": 0}, "between 2000 and 2100"),
        ({"request_s": np.zeros(3)}, "no window has a request"),
        ({"request_s": np.zeros(0)}, "0 windows"),
    ],
)
def test_what_is_no_history_is_told(change, reason):
    values = {"start_s": START_S, "window_s": 600, "request_s": np.ones(3), **change}
    with pytest.raises(HistoryError, match=reason):
        History(**values)


def test_windows_too_far_apart_are_refused():
    with pytest.raises(HistoryError, match="at most 300,000 are kept"):
        history_of_windows(np.array([START_S, START_S + 600 * 300_000]), {"request_s": np.ones(2)}, 600)


# --- files ---
def test_a_published_rate_series_is_read_with_a_start():
    found = read(f"{HEAD},extra\n600,20,0.4,x\n0,10,0.5,y\n1800,30,,z\n")
    assert found.history.start_s == START_S
    assert found.history.window_s == 600
    assert_allclose(found.history.request_s, [10, 20, np.nan, 30])
    assert_allclose(found.history.top_client_ratio, [0.5, 0.4, np.nan, np.nan])
    assert found.note == "ignored columns: extra"


def test_moments_may_have_any_zone_and_a_file_may_be_compressed():
    text = "window_start,request_s\n2027-01-01T08:00:00+08:00,5\n2027-01-01T01:00:00Z,6\n"
    packed = io.BytesIO(gzip.compress(text.encode()))
    found = history_read(packed, "rates.csv.gz")
    assert found.history.start_s == START_S
    assert_allclose(found.history.request_s, [5, 6])


def test_what_goes_out_as_csv_comes_in_again():
    first = history([1 / 3, np.nan, 3], input_tok=[10, np.nan, np.nan])
    again = read(first.csv(), starts_at=None, window_s=600)
    assert again.history.digest == first.digest


def test_every_row_that_is_wrong_is_named_with_line_and_column():
    text = f"{HEAD}\n0,10,0.5\n600,x,0.5\n1200,5,1.5\n1800,-1,0.5\nsoon,1,0.5\n2400,1\n0,7,0.5\n650,1,0.5\n3000,,0.1\n"
    assert [(line, column) for line, column, _ in faults_of(text, window_s=600)] == [
        *((3, "rate_rps"), (4, "top_client_share"), (5, "rate_rps"), (6, "window_start_s"), (7, "top_client_share")),
        *((10, "rate_rps"), (8, "window_start_s"), (9, "window_start_s")),
    ]
    assert "the same window as in line 2" in faults_of(text, window_s=600)[6][2]


def test_faults_beyond_the_first_hundred_are_counted():
    with pytest.raises(HistoryFaultsError) as caught:
        read(f"{HEAD}\n" + "".join(f"{600 * at},x,0\n" for at in range(250)))
    assert (len(caught.value.faults), caught.value.total) == (100, 250)
    assert str(caught.value) == 'rates.csv:2: column rate_rps: "x" is not a number (and 249 more)'


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("", {}, "the file is empty"),
        (f"{HEAD}\n", {}, "a header, but no windows"),
        ("window_start_s\n0\n", {}, "column rate_rps|column request_s"),
        ("rate_rps\n1\n", {}, "column window_start: missing"),
        ("window_start,window_start_s,rate_rps\n", {}, "give one"),
        ("rate_rps,request_s,window_start_s\n", {}, "say the same"),
        (f"{HEAD}\n0,1,0\n", {}, "one window only"),
        (f"{HEAD}\n0,1,0\n600,1,0\n", {"starts_at": None}, "name the start"),
        ("window_start,rate_rps\n2027-01-01T00:00:00Z,1\n", {"window_s": 600}, "give no start"),
        (f"{HEAD}\n0,1,0\n7000,1,0\n", {}, "windows of 7000 s"),
        (f"{HEAD}\n0,1,0\n", {"name": "rates.csv.gz"}, "not a gzip file"),
        (f"{HEAD}\n0,1,0\n", {"name": "rates.xlsx"}, "content is other text"),
    ],
)
def test_a_file_that_is_none_is_told_why(text, options, reason):
    with pytest.raises(FileError, match=reason):
        read(text, **options)


def test_a_gzip_bomb_ends_at_the_limit():
    bomb = io.BytesIO(gzip.compress(b"0" * 2**23))
    with pytest.raises(FileError, match="expand beyond"):
        history_read(bomb, "rates.csv.gz")
    with pytest.raises(FileError, match="damaged gzip data"):
        history_read(io.BytesIO(gzip.compress(HEAD.encode())[:-9]), "rates.csv.gz")


@pytest.mark.parametrize("text", ["2027-01-01", "2027-01-01T00:00:00", "soon", "2027-01-01T00:00:00.5Z"])
def test_a_moment_needs_a_zone_and_a_whole_second(text):
    with pytest.raises(ValueError, match=r"moment|zone|second"):
        moment_of(text)
