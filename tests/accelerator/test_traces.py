import gzip
import io
import warnings

import numpy as np
import pytest

from accelerator.errors import TraceError, TraceWarning
from accelerator.traces import workload_parse, workload_read

HEADER = "arrival_s,input_tokens,output_tokens\n"


def parse(text, name="file.csv", **guards):
    content = text if isinstance(text, bytes) else text.encode()
    return workload_parse(io.BytesIO(content), name, **guards)


def test_the_three_columns_are_read_in_any_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("output_tokens,arrival_s,input_tokens\n3,0.5,10\n4,0.5,20\n\n5,2e0,30.0\n")
    workload = workload_read(path)
    assert workload.name == "a"
    assert workload.arrival_s.tolist() == [0.5, 0.5, 2.0]
    assert workload.input_tok.tolist() == [10, 20, 30]
    assert workload.output_tok.tolist() == [3, 4, 5]
    assert workload.prefix_hashes is None
    assert workload.client_id is None


def test_gzip_is_told_by_content_and_optional_columns_are_read(tmp_path):
    path = tmp_path / "b.csv.gz"
    path.write_bytes(
        gzip.compress(
            b"arrival_s,input_tokens,output_tokens,prefix_hashes,client_id,priority\r\n0,1,2,7 8,4,1\r\n1,1,2,,5,0"
        )
    )
    workload = workload_read(path)
    assert workload.name == "b"
    assert workload.prefix_hashes == ((7, 8), ())
    assert workload.client_id.tolist() == [4, 5]
    assert workload.priority.tolist() == [1, 0]


def test_an_upload_stays_open_and_is_read_like_a_file():
    stream = io.BytesIO((HEADER + "0,1,2\n").encode())
    assert len(workload_parse(stream, "upload")) == 1
    assert not stream.closed


def test_a_byte_order_mark_and_quotes_are_fine():
    assert len(parse("\ufeff" + HEADER + '"0","1","2"\n')) == 1


def test_other_columns_are_ignored_with_one_warning():
    with pytest.warns(TraceWarning, match="ignored columns: region, tier") as caught:
        workload = parse("arrival_s,region,input_tokens,output_tokens,tier\n0,x,1,2,y\n1,x,1,2,y\n")
    assert len(caught) == 1
    assert len(workload) == 2


def test_known_columns_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse(HEADER + "0,1,2\n")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("arrival_s,output_tokens\n0,1\n", "file.csv:1: column input_tokens: missing"),
        ("arrival_s,input_tokens,output_tokens,arrival_s\n0,1,1,1\n", "file.csv:1: column arrival_s: appears twice"),
        (HEADER + "0,1,2\nsoon,1,2\n", 'file.csv:3: column arrival_s: "soon" is not a number'),
        (HEADER + "0,1,2\n1,,2\n", "file.csv:3: column input_tokens: empty"),
        (HEADER + "0,1,2\n1,x,2\n", 'file.csv:3: column input_tokens: "x" is not a number'),
        (HEADER + "0,1_0,2\n", "file.csv:2: column input_tokens: 1_0 is not a whole number"),
        (HEADER + "nan,1,2\n", "file.csv:2: column arrival_s: nan is not a finite number"),
        (HEADER + "0,inf,2\n", "file.csv:2: column input_tokens: inf is not a finite number"),
        (HEADER + "0,1,-2\n", "file.csv:2: column output_tokens: -2 is negative"),
        (HEADER + "-0.5,1,2\n", "file.csv:2: column arrival_s: -0.5 is negative"),
        (HEADER + "0,1.5,2\n", "file.csv:2: column input_tokens: 1.5 is not a whole number"),
        (HEADER + "0,1,200000000\n", "file.csv:2: column output_tokens: 200000000 is more than 100000000"),
        (HEADER + "1,1,2\n0.5,1,2\n", "file.csv:3: column arrival_s: 0.5 is earlier than the row before (1)"),
        (HEADER + "0,1\n", "file.csv:2: column output_tokens: 2 cells where the header has 3"),
        (HEADER + "0,1,2,3\n", "file.csv:2: 4 cells where the header has 3"),
        (HEADER + "\n\n0,1,2\n0,1,q\n", 'file.csv:5: column output_tokens: "q" is not a number'),
        (HEADER + '0,1,"2\n', "file.csv:2: not valid csv: unexpected end of data"),
        (HEADER, "file.csv: a header, but no requests"),
        ("", "file.csv: the file is empty"),
        (HEADER.encode() + b"0,1,\xff\n", "file.csv:2: not UTF-8 text"),
        (HEADER.encode() + b"0,1,2\n0,\0,2\n", "file.csv:3: NUL bytes: not a csv text"),
        (b"PK\x03\x04\x00\x00", "file.csv:1: NUL bytes: not a csv text"),
    ],
)
def test_bad_input_names_file_line_and_column(text, place):
    with pytest.raises(TraceError) as caught:
        parse(text)
    assert str(caught.value) == place


def test_a_quoted_line_break_does_not_shift_the_line_numbers():
    text = 'arrival_s,note,input_tokens,output_tokens\n0,"two\nlines",1,2\n1,x,1,bad\n'
    with pytest.warns(TraceWarning), pytest.raises(TraceError, match=r"file.csv:4: column output_tokens"):
        parse(text)


def test_a_truncated_gzip_says_after_which_line():
    rng = np.random.default_rng(1)
    rows = "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(rng.integers(1, 9999, (5000, 2))))
    whole = gzip.compress((HEADER + rows).encode())
    with pytest.raises(TraceError, match=r"t.csv.gz: the gzip data end early, after line [1-9]\d*"):
        parse(whole[: len(whole) // 2], "t.csv.gz")


def test_damaged_and_empty_gzip_files():
    whole = bytearray(gzip.compress((HEADER + "0,1,2\n" * 1000).encode()))
    whole[-6] ^= 0xFF  # the checksum
    with pytest.raises(TraceError, match="damaged gzip data after line"):
        parse(bytes(whole), "t.csv.gz")
    with pytest.raises(TraceError, match=r"t.csv.gz: the file is empty"):
        parse(b"", "t.csv.gz")
    with pytest.raises(TraceError, match=r"t.csv.gz: the file is empty"):
        parse(gzip.compress(b""), "t.csv.gz")
    with pytest.raises(TraceError, match="not a gzip file"):
        parse(HEADER + "0,1,2\n", "t.csv.gz")


def test_guards_stop_long_files_and_gzip_bombs():
    with pytest.raises(TraceError, match=r"file.csv:4: more than 2 requests"):
        parse(HEADER + "0,1,2\n" * 3, max_requests=2)
    assert len(parse(HEADER + "0,1,2\n" * 2, max_requests=2)) == 2
    bomb = gzip.compress((HEADER + "0,1,2\n" * 500_000).encode())
    with pytest.raises(TraceError, match="more than 100000 bytes"):
        parse(bomb, max_bytes=100_000)
    with pytest.raises(TraceError, match=r"file.csv:1: a line longer than 1048576 bytes"):
        parse(gzip.compress(b"x" * 5_000_000))


def test_a_gzip_bomb_is_refused_by_what_it_expands_to_long_before_its_end():
    bomb = gzip.compress((HEADER + "0,1,2\n" * 3_000_000).encode())
    with pytest.raises(TraceError, match="the gzip data expand more than 100 times") as caught:
        parse(bomb, "bomb.csv.gz")
    assert caught.value.line < 1_000_000


def test_a_short_file_of_equal_rows_is_no_bomb_and_a_plain_one_of_any_length_neither():
    rows = (HEADER + "0,1,2\n" * 100_000).encode()
    assert len(gzip.compress(rows)) * 100 < len(rows)
    assert len(parse(gzip.compress(rows), "t.csv.gz")) == 100_000
    assert len(parse(HEADER + "0,1,2\n" * 200_000)) == 200_000


def test_a_trace_without_any_output_token_is_refused_as_a_whole():
    with pytest.raises(TraceError) as caught:
        parse(HEADER + "0,1,0\n1,2,0\n")
    assert str(caught.value) == "file.csv: column output_tokens: no output tokens in the whole file"
    assert len(parse(HEADER + "0,1,0\n1,2,1\n")) == 2


def test_a_missing_file_is_a_trace_error(tmp_path):
    with pytest.raises(TraceError, match=r"gone.csv: No such file"):
        workload_read(tmp_path / "gone.csv")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file_name", "requests", "rate_request_s", "iat_cv", "input_tok", "output_tok"),
    [
        ("azure2023_conv", 14_453, 5.90, 1.08, 1189, 202),
        ("azure2023_code", 7_491, 3.13, 12.6, 2040, 27.6),
        ("mooncake_conversation", 7_689, 3.26, 2.96, 12_449, 348),
        ("servegen_requests_m_small_20min", 536_930, 447.4, 1.22, 179, 23),
    ],
)
def test_published_traces_have_their_published_statistics(
    shared_data, file_name, requests, rate_request_s, iat_cv, input_tok, output_tok
):
    mix = workload_read(shared_data / "traces" / f"{file_name}.csv.gz").token_mix()
    assert mix.requests == requests
    assert mix.rate_request_s == pytest.approx(rate_request_s, rel=0.01)
    assert mix.iat_cv == pytest.approx(iat_cv, rel=0.01)
    assert mix.input_tok == pytest.approx(input_tok, rel=0.01)
    assert mix.output_tok == pytest.approx(output_tok, rel=0.01)
