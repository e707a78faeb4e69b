"""Kernel files of every family: what is read, what is refused and why, and what is predicted for each row."""

import csv
import gzip
import zlib

import numpy as np
import pytest

from accelerator import families, kernels
from accelerator.__main__ import main
from accelerator.calibration import calibration_load
from accelerator.errors import TraceError
from accelerator.families import FAMILIES, family_recognise, kernel_file_read, times_s

ROWS = {  # one invented row of each family
    "gemm": "chip=h100-sxm engine=vllm dtype=fp8 m=48 n=1536 k=2048",
    "attention_prefill": "chip=h100-sxm engine=vllm attn_dtype=bf16 kv_cache_dtype=bf16 batch_size=3 new_tokens=700 "
    "past_tokens=50 num_heads=12 num_key_value_heads=3 head_dim=128 window_size=0",
    "attention_decode": "chip=h100-sxm engine=vllm attn_dtype=bf16 kv_cache_dtype=bf16 batch_size=3 kv_len=700 "
    "num_heads=12 num_key_value_heads=3 head_dim=128 window_size=0",
    "latent_prefill": "chip=h100-sxm engine=trtllm mla_dtype=bf16 kv_cache_dtype=bf16 num_heads=24 batch_size=3 "
    "new_tokens=700 past_tokens=0",
    "latent_decode": "chip=h100-sxm engine=trtllm mla_dtype=bf16 kv_cache_dtype=bf16 num_heads=24 batch_size=3 "
    "kv_len=700",
    "experts": "chip=h100-sxm engine=vllm engine_version=0.20.0 dtype=bf16 kernel_source=vllm_fused_moe num_tokens=48 "
    "hidden_size=1536 inter_size=768 topk=3 num_experts=24 moe_tp_size=1 moe_ep_size=2 distribution=balanced",
    "collectives": "chip=h100-sxm library=NCCL collective=all_reduce num_gpus=4 message_bytes=700000",
}
ROWS = {name: dict(cell.split("=") for cell in text.split()) for name, text in ROWS.items()}
COUNTS = [  # columns that hold a number which is not 0
    (name, column)
    for name, row in ROWS.items()
    for column in row
    if row[column].isdigit() and column not in {"past_tokens", "window_size", "num_key_value_heads"}
]
PRECISE = {"gemm": "dtype", "attention_prefill": "attn_dtype", "experts": "dtype"}  # columns that choose the arithmetic
DTYPES = {"gemm": "dtype", "attention_prefill": "attn_dtype", "attention_decode": "kv_cache_dtype",
          "latent_prefill": "kv_cache_dtype", "latent_decode": "kv_cache_dtype", "experts": "dtype"}  # fmt: skip

BROKEN = {
    "cut": (lambda packed: packed[:-20], "ended before"),
    "wrong checksum": (lambda packed: packed[:-6] + bytes([packed[-6] ^ 255]) + packed[-5:], "CRC"),
    "damaged": (lambda packed: packed[:10] + b"\xff" * 20 + packed[30:], ""),
    "another method": (lambda packed: packed[:2] + b"xxxxxxxx", "compression method"),
}


def text_of(*rows):
    """Return rows as a kernel file."""
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def kernel_file(tmp_path):
    def write(content, name="kernels.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def predict(kernel_file, capsys):
    """Return the rows that ``python -m accelerator kernels`` writes for a file."""

    def run(content):
        assert main(["kernels", str(kernel_file(content))]) == 0
        return list(csv.DictReader(capsys.readouterr().out.splitlines()))

    return run


# --- families ---------------------------------------------------------------------------------------------------------
def test_families_have_a_code_and_columns_of_their_own():
    assert sorted(family.code for family in FAMILIES.values()) == [1, 2, 3, 4, 5, 6, 7]
    for name, row in ROWS.items():
        assert family_recognise("f.csv", list(row)).name == name
        assert FAMILIES[name].columns <= set(row)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_has_a_size_a_member_and_a_time_for_everything_the_family_names(name, kernel, monkeypatch):
    monkeypatch.setattr(kernels, "roofline", kernel)
    family = FAMILIES[name]
    row = family.row_parse(ROWS[name])
    assert len(row.shape) == len(family.shape)
    assert len(row.members) == len(family.levels)
    assert row.members[-1].split("|")[0] == "h100-sxm"
    parameters = np.array([[parameter.centre] for parameter in family.parameters])
    time_s = times_s(family, np.array([row.shape]), parameters)
    assert 1e-6 < time_s[0] < 1e-2


def test_columns_of_no_family_are_refused_by_name():
    with pytest.raises(
        TraceError, match=r"f.csv:1: no operation has the columns chip, colour \(known are gemm: chip, "
    ):
        family_recognise("f.csv", ["chip", "colour"])


# --- rows that cannot be predicted ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FAMILIES)
def test_an_unknown_chip_is_the_reason(name, predict):
    (row,) = predict(text_of(ROWS[name] | {"chip": "h1000"}))
    assert (row["latency_ms"], row["p10"], row["p90"]) == ("", "", "")
    assert row["reason"].startswith('unknown chip "h1000"; did you mean ')


@pytest.mark.parametrize(("name", "column"), DTYPES.items())
def test_an_unknown_dtype_is_the_reason(name, column, predict):
    (row,) = predict(text_of(ROWS[name] | {column: "ternary"}))
    assert row["latency_ms"] == ""
    assert row["reason"].startswith(f'{column} "ternary" is not known; known are ')


@pytest.mark.parametrize(("name", "column"), PRECISE.items())
def test_a_precision_the_chip_lacks_is_the_reason(name, column, predict):
    (row,) = predict(text_of(ROWS[name] | {column: "fp8", "chip": "a100-80"}))
    assert row["reason"] == "a100-80 does not compute in fp8; it has bf16, int8"


@pytest.mark.parametrize("name", ["gemm", "attention_decode", "latent_prefill", "experts"])
def test_a_figure_that_nobody_has_published_is_the_reason(name, predict):
    row = ROWS[name] | ({"dtype": "bf16"} if name == "gemm" else {})
    (bare, unknown) = predict(text_of(row | {"chip": "metax-c600"}, row | {"chip": "rtx-pro-6000d"}))
    assert bare["reason"].startswith("metax-c600 has no memory_byte_s")
    assert unknown["reason"].startswith("rtx-pro-6000d does not compute in bf16")


@pytest.mark.parametrize(("name", "column"), COUNTS)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("many", '{} is "many", not a number'),
        ("", '{} is "", not a number'),
        ("0", "{} is 0, not a number from "),
        ("-3", "{} is -3, not a number from "),
        ("nan", "{} is nan, not a number from "),
        ("inf", "{} is inf, not a number from "),
    ],
)
def test_a_size_that_is_no_count_is_the_reason(name, column, text, reason, kernel_file):
    (why,) = kernel_file_read(kernel_file(text_of(ROWS[name] | {column: text}))).reasons.values()
    assert why.startswith(reason.format(column))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_line_that_ends_early_has_a_reason_too(name, predict):
    columns = [*(column for column in ROWS[name] if column not in {"chip", "engine"}), "engine", "chip"]
    whole = {column: ROWS[name].get(column, "") for column in columns}
    text = text_of(whole) + ",".join(list(whole.values())[:2]) + "\n"
    fine, short = predict(text)
    assert float(fine["latency_ms"]) > 0
    assert short["latency_ms"] == ""
    assert short["reason"]


@pytest.mark.parametrize("column", ["past_tokens", "window_size", "num_key_value_heads"])
def test_some_sizes_may_be_zero_but_not_missing(column, kernel_file):
    read = kernel_file_read(kernel_file(text_of(*(ROWS["attention_prefill"] | {column: text} for text in ("0", "")))))
    assert read.at.tolist() == [0]
    assert read.reasons == {1: f'{column} is "", not a number'}


# --- files that cannot be read ----------------------------------------------------------------------------------------
def test_a_file_is_read_plain_or_gzipped_and_with_a_byte_order_mark(kernel_file):
    text = text_of(ROWS["gemm"], ROWS["gemm"] | {"m": "x"}, ROWS["gemm"] | {"m": "3"})
    for content in (text, "\ufeff" + text, text.replace("\n", "\r\n"), gzip.compress(text.encode())):
        read = kernel_file_read(kernel_file(content))
        assert (read.family.name, read.count, read.at.tolist()) == ("gemm", 3, [0, 2])
        assert read.rows.shape[:, 0].tolist() == [48, 3]
        assert np.isnan(read.rows.latency_s).all()
        assert read.groups == ("1536,2048", "1536,2048")


@pytest.mark.parametrize(("damage", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_gzip_file_is_refused_by_name(damage, reason, kernel_file):
    packed = gzip.compress("".join(f"{zlib.crc32(b'%d' % i)}\n" for i in range(200)).encode())
    with pytest.raises(TraceError, match=rf"kernels.csv.gz: cannot be read: .*{reason}"):
        kernel_file_read(kernel_file(damage(packed), "kernels.csv.gz"))


def test_a_file_that_is_not_there_or_no_text_is_refused_by_name(kernel_file, tmp_path):
    with pytest.raises(TraceError, match=r"gone.csv: cannot be read: .*No such file"):
        kernel_file_read(tmp_path / "gone.csv")
    with pytest.raises(TraceError, match=r"kernels.csv: cannot be read: .*utf-8"):
        kernel_file_read(kernel_file(text_of(ROWS["gemm"]).encode() + b"\xff\n"))


def test_a_cell_longer_than_any_is_refused_by_name(kernel_file):
    with pytest.raises(TraceError, match=r"kernels.csv"):
        kernel_file_read(kernel_file(text_of(ROWS["gemm"] | {"engine": "x" * 200_000})))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_is_refused_by_what_it_unpacks_to(pack, kernel_file, monkeypatch):
    monkeypatch.setattr(families, "KERNEL_FILE_MAX_BYTE", 2**20)
    rows = text_of(*[ROWS["gemm"]] * 40_000).encode()
    assert len(rows) > 2**20 > len(gzip.compress(rows))
    with pytest.raises(TraceError, match=r"kernels.csv: is larger than 1 MiB"):
        kernel_file_read(kernel_file(pack(rows)))


def test_an_empty_file_has_no_columns_and_a_header_no_rows(kernel_file, predict):
    for content in (b"", gzip.compress(b"")):
        with pytest.raises(TraceError, match="no operation has the columns"):
            kernel_file_read(kernel_file(content))
    assert predict(",".join(ROWS["gemm"]) + "\n") == []


# --- predictions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FAMILIES)
def test_each_row_is_answered_in_its_place(name, predict):
    row = ROWS[name]
    answers = predict(text_of(row, row | {"chip": "nothing"}, row | {"chip": "h200"}, row))
    assert [answer["row"] for answer in answers] == ["0", "1", "2", "3"]
    assert list(answers[0]) == ["row", "latency_ms", "p10", "p90", "reason"]
    assert [bool(answer["reason"]) for answer in answers] == [False, True, False, False]
    assert answers[0] | {"row": "3"} == answers[3]
    for answer in (answers[0], answers[2]):
        low, middle, high = (float(answer[column]) for column in ("p10", "latency_ms", "p90"))
        assert 0 < low <= middle <= high
        assert 1e-3 < middle < 10


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_file_measured_does_not_change_what_is_predicted(name, predict):
    expected = predict(text_of(ROWS[name]))
    for latency in ("1000", "", "wrong", "-1"):
        assert predict(text_of(ROWS[name] | {"latency_ms": latency})) == expected


def test_a_file_of_bad_rows_only_is_answered_by_reasons(predict):
    answers = predict(text_of(*[ROWS["gemm"] | {"chip": "nothing"}] * 3))
    assert [answer["latency_ms"] for answer in answers] == ["", "", ""]
    assert all(answer["reason"] for answer in answers)


def test_a_file_that_cannot_be_used_is_one_sentence_and_exit_code_2(kernel_file, capsys):
    assert main(["kernels", str(kernel_file("a,b\n1,2\n"))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no operation has the columns a, b" in captured.err


@pytest.mark.parametrize("name", FAMILIES)
def test_a_chip_never_measured_is_predicted_from_its_kin(name, predict):
    row = ROWS[name]
    calibration = calibration_load(name)
    kin, unseen = predict(text_of(row | {"chip": "gb200"}, row | {"chip": "gb300"}))
    assert "gb200" in calibration.chips
    assert calibration.basis(FAMILIES[name].row_parse(row | {"chip": "gb300"}).members) == "pooled"
    assert float(unseen["latency_ms"]) == pytest.approx(float(kin["latency_ms"]), rel=0.5)
    width, kin_width = (np.log(float(answer["p90"]) / float(answer["latency_ms"])) for answer in (unseen, kin))
    assert width > 0.6 * kin_width


def test_measured_latencies_are_read_in_seconds(kernel_file):
    texts = ("2.5", "", "wrong", "-1", "0")
    read = kernel_file_read(kernel_file(text_of(*(ROWS["gemm"] | {"latency_ms": text} for text in texts))))
    assert read.rows.latency_s[0] == 2.5e-3
    assert np.isnan(read.rows.latency_s[1:]).all()
