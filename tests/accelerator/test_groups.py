import numpy as np
import pytest

from accelerator.groups import HARDLY, LEVELS, MEASURED, TAU, groups_of, tau_expected
from accelerator.points import deployment_of, points_parse
from accelerator.serving import INDEX, PARAMETERS

ROW = {
    "point_id": "p1", "chip": "H100-SXM", "chip_count": "1", "tp": "1", "model": "Llama-3.1-8B", "engine": "vLLM",
    "engine_version": "v0.11.2", "scenario": "closed-loop concurrency", "metric": "tpot_ms", "input_len": "1000",
    "output_len": "100", "concurrency": "8", "source": "lab/series@abc:folder/run.csv (first)",
}  # fmt: skip


def groups(*, measured=True, **changes):
    row = {**ROW, **changes}
    text = ",".join(row) + "\n" + ",".join('"' + value.replace('"', '""') + '"' for value in row.values()) + "\n"
    (point,) = points_parse(text, "points.csv")
    return groups_of(deployment_of(point), measured=measured)


def differing(**changes):
    """Return the levels at which a row and a changed one belong to different groups."""
    before, after = groups(), groups(**changes)
    return {level for level in LEVELS if before[level] != after[level]}


# --- members ---------------------------------------------------------------------------------------------------------
def test_a_row_has_a_member_of_every_level_in_their_order():
    assert list(groups()) == list(LEVELS)
    assert all(groups().values())


def test_a_row_is_named_by_what_it_is():
    found = groups()
    assert found["chip"] == "h100-sxm"
    assert found["architecture"] == "hopper"
    assert found["engine"] == "vllm"
    assert found["model"] == "llama-3.1-8b"
    assert found["pair"] == "h100-sxm|llama-3.1-8b"
    assert found["chip_engine"] == "h100-sxm|vllm"
    assert found["chip_format"] == "h100-sxm|bf16"
    assert found["engine_version"] == "vllm|0.11"


def test_length_users_and_metric_change_no_group():
    assert not differing(input_len="50", output_len="900", concurrency="200", metric="ttft_ms", value="3")


def test_a_chip_changes_what_names_chips():
    assert differing(chip="H200-SXM") == {"chip", "pair", "chip_engine", "deployment", "chip_format"}
    assert differing(chip="A100-SXM-80G") >= {"architecture", "architecture_engine"}


def test_a_capped_chip_is_the_same_chip():
    assert not differing(power_cap_frac="0.7")


def test_a_model_changes_what_names_models():
    assert differing(model="Qwen3-8B") == {"model", "pair", "deployment"}


def test_a_precision_changes_format_and_deployment():
    assert differing(weight_precision="fp8") == {"format", "deployment", "chip_format"}


def test_a_layout_changes_the_deployment_only():
    assert differing(chip_count="2", tp="2") == {"deployment"}
    assert differing(chip_count="2", tp="1") == {"deployment"}


def test_speculation_changes_the_deployment_only():
    assert differing(notes="speculation k=3") == {"deployment"}


def test_a_checkpoint_in_notes_changes_format_and_deployment():
    assert differing(notes="checkpoint AutoAWQ-g128") == {"format", "deployment"}
    assert groups(notes="checkpoint AutoAWQ-g128")["format"].endswith("|AutoAWQ-g128")


def test_an_engine_changes_what_names_engines():
    assert differing(engine="SGLang") == {
        "engine", "engine_version", "format", "campaign", "chip_engine", "deployment", "engine_kind",
        "architecture_engine",
    }  # fmt: skip


def test_a_load_changes_only_how_something_was_measured():
    assert differing(scenario="static batch") == {"publisher", "campaign"}


def test_separate_prefill_workers_are_part_of_the_deployment():
    row = {"chip": "H200-SXM", "chip_count": "64", "tp": "", "model": "DeepSeek-R1", "scenario": "PD-disaggregated"}
    notes = "P:{}x(tp1,dp16,ep16,bs1) D:3x(tp16,dp1,ep16,bs20)"
    one, two = (groups(**row, notes=notes.format(count)) for count in (1, 2))
    assert "+ tp1 dp16 x1" in one["deployment"]
    assert {level for level in LEVELS if one[level] != two[level]} == {"deployment"}


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("Llama-3.1-8B", "gqa"),
        ("Mixtral-8x7B", "gqa|moe"),
        ("DeepSeek-R1", "mla|moe"),
        ("gpt-oss-20b", "window|moe"),
        ("Mistral-7B", "window"),
        ("Qwen3.5-9B", "linear"),
    ],
)
def test_a_kind_is_attention_and_whether_there_are_experts(model, kind):
    found = groups(model=model, chip_count="8", tp="8")
    assert found["kind"] == kind
    assert found["engine_kind"] == f"vllm|{kind}"


# --- versions, publishers, campaigns ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "member"),
    [
        ("0.11.0", "vllm|0.11"),
        ("v0.11.2rc1", "vllm|0.11"),
        ("release 1.2", "vllm|1.2"),
        ("main", "vllm|main"),
        ("nightly-of-a-long-name", "vllm|nightly-of-a"),
        ("", ""),
    ],
)
def test_a_version_is_major_and_minor(version, member):
    assert groups(engine_version=version)["engine_version"] == member


def test_versions_with_the_same_major_and_minor_are_one():
    assert not differing(engine_version="0.11.9")
    assert differing(engine_version="0.12.0") == {"engine_version", "deployment"}


def test_a_publisher_is_the_source_before_path_and_commit():
    assert groups()["publisher"] == "lab/series|closed"
    assert groups(source="lab/series:other.md")["publisher"] == "lab/series|closed"
    assert groups(source="")["publisher"] == "|closed"


def test_one_publisher_has_several_campaigns():
    assert differing(source="lab/series@abc:folder/other.csv") == {"campaign"}


@pytest.mark.parametrize(
    ("source", "campaign"),
    [
        ("lab:x/epnone/a.csv", "own, lengths in thousands"),
        ("lab:gap_analysis/a.csv", "gap"),
        ("lab:x_cfg12.csv", "cfg"),
        ("lab:post (2025-03-01)", "2025"),
        ("lab:folder/run.csv (first)", "folder/run.csv"),
        ("lab:readme.md", ""),
    ],
)
def test_a_campaign_is_told_by_how_runs_are_named(source, campaign):
    assert groups(source=source)["campaign"] == f"lab|closed|{campaign}|vllm"


def test_what_nobody_measured_has_neither_publisher_nor_campaign():
    found, measured = groups(measured=False), groups()
    assert {level for level, name in found.items() if not name} == MEASURED
    assert all(found[level] == measured[level] for level in set(LEVELS) - MEASURED)


# --- scatter ---------------------------------------------------------------------------------------------------------
def test_every_level_and_parameter_has_an_expected_scatter():
    tau = tau_expected()
    assert tau.shape == (len(LEVELS), len(PARAMETERS))
    assert (tau > 0).all()


def test_expected_scatter_is_the_levels_times_the_parameters():
    tau = tau_expected()
    stated = np.zeros(tau.shape, dtype=bool)
    for parameter, level in TAU:
        stated[list(LEVELS).index(level), INDEX[parameter]] = True
    product = np.outer(list(LEVELS.values()), [parameter.tau for parameter in PARAMETERS])
    for names, where, ratio in HARDLY:
        product[np.ix_([list(LEVELS).index(level) for level in where], [INDEX[name] for name in names])] *= ratio
    assert tau[~stated] == pytest.approx(product[~stated])


@pytest.mark.parametrize(("parameter", "level"), TAU)
def test_a_stated_scatter_comes_before_the_product(parameter, level):
    assert tau_expected()[list(LEVELS).index(level), INDEX[parameter]] == TAU[parameter, level]


def test_measured_levels_are_levels():
    assert set(LEVELS) > MEASURED


def test_series_of_one_publisher_are_told_apart_by_their_lengths():
    source = "lab:x/epnone/a.csv"
    thousands, powers = (groups(source=source, input_len=tok)["campaign"] for tok in ("4000", "4096"))
    assert thousands == groups(source=source, input_len="1000")["campaign"] != powers
