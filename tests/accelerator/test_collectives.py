import pytest
from numpy.testing import assert_allclose

from accelerator.chips import chip_get
from accelerator.collectives import COLLECTIVES, NETWORK_ASSUMED_BYTE_S, collective_row, row_parse
from accelerator.errors import MissingFigureError
from accelerator.family import KernelRowError
from tests.accelerator.test_roofline import parts_s

NEVER = 1e300

SHAPE = {
    "byte": 1e9, "ranks": 8, "slices": 1.75, "steps": 14, "copy_share": 0, "point": 0, "link_byte_s": 1e11, "crowd": 1,
    "in_switch": 0, "custom": 0, "host_issued": 0,
}  # fmt: skip
IDEAL = {  # only the large-message protocol, at the rate of the link
    "launch_s": 0, "hop_s": 0, "link_ratio": 1, "fill_s": 0, "copy_byte_s": NEVER, "low_latency_ratio": 1e-9,
    "point_byte_s": NEVER, "contention": 0, "one_shot_ratio": 1, "issue_s": 0, "switch_ratio": 1.4,
}  # fmt: skip
LEAVE = 1.12  # start-up of a message that has outgrown the smallest protocol


def collective_s(kernel, shape=None, **parameters):
    return parts_s(kernel, COLLECTIVES, SHAPE | (shape or {}), IDEAL | parameters)


def made(kind, ranks=8, chip="a100-80", **changed):
    shape, members = collective_row(
        chip_get(chip), kind, **({"byte": 1e9, "ranks": ranks, "library": "NCCL"} | changed)
    )  # fmt: skip
    return dict(zip(COLLECTIVES.shape, shape, strict=True)), members


# --- bytes and hops ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "ranks", "sent", "hops"),
    [
        ("all_reduce", 8, 2 * 7 / 8, 14),
        ("all_reduce", 2, 1, 2),
        ("all_gather", 8, 7 / 8, 7),
        ("reduce_scatter", 4, 3 / 4, 3),
        ("alltoall", 8, 7 / 8, 1 + 3),
        ("send_recv", 2, 1, 1),
    ],
)
def test_what_a_rank_sends_and_how_often(kernel, kind, ranks, sent, hops):
    shape, _ = made(kind, ranks)
    wire_s = sent * 1e9 / 300e9  # NVLink of an A100
    assert_allclose(parts_s(kernel, COLLECTIVES, shape, IDEAL), [wire_s, 0, wire_s])
    waiting_s = parts_s(kernel, COLLECTIVES, shape, IDEAL | {"hop_s": 1e-3, "launch_s": 1e-2})[0]
    assert_allclose(waiting_s - wire_s, LEAVE * (1e-2 + hops * 1e-3), rtol=1e-4)


def test_the_own_slice_is_copied_inside_the_chip_but_for_all_reduce_and_send(kernel):
    for kind, copied in (("all_gather", 1 / 8), ("alltoall", 1 / 8), ("all_reduce", 0), ("send_recv", 0)):
        shape, _ = made(kind)
        extra_s = (
            parts_s(kernel, COLLECTIVES, shape, IDEAL | {"copy_byte_s": 1e10})[0]
            - parts_s(kernel, COLLECTIVES, shape, IDEAL)[0]
        )
        assert_allclose(extra_s, copied * 1e9 / 1e10, atol=1e-9)


def test_switches_that_add_up_spare_bytes_of_an_all_reduce(kernel):
    assert_allclose(collective_s(kernel, {"in_switch": 1})[2], 1.4e9 / 1e11)
    assert_allclose(collective_s(kernel, {"in_switch": 1, "slices": 1})[2], 1e9 / 1e11)  # a ring of two sends less
    for chip, kind, adds in (("h100-sxm", "all_reduce", 1), ("h100-sxm", "all_gather", 0), ("a100-80", "all_reduce", 0),
                             ("b200", "all_reduce", 1), ("l40s", "all_reduce", 0)):  # fmt: skip
        assert made(kind, chip=chip)[0]["in_switch"] == adds


# --- protocols --------------------------------------------------------------------------------------------------------
def test_a_pipeline_is_filled_with_the_best_number_of_chunks(kernel):
    assert_allclose(collective_s(kernel, fill_s=0.0175)[0], 4 * 0.0175)  # as long as the wire: (1 + 1)^2


def test_small_messages_take_the_low_latency_protocol(kernel):
    small = {"byte": 1000}
    ring_s = 1750 / 1e11
    assert_allclose(collective_s(kernel, small, fill_s=1, low_latency_ratio=0.5)[0], 2 * ring_s)
    point_s = collective_s(kernel, small | {"point": 1}, fill_s=1, low_latency_ratio=0.5, point_byte_s=1e9)[0]
    assert_allclose(point_s, 2 * ring_s + 1750 / 1e9)


def test_two_protocols_of_equal_time_meet_at_a_smooth_edge(kernel):
    assert_allclose(collective_s(kernel, low_latency_ratio=1)[0], 0.0175 * 2**-0.25)


def test_start_up_rises_once_messages_outgrow_the_smallest_protocol(kernel):
    for byte, factor in ((1, 1), (16384, 1.06), (1e12, 1.12)):
        assert_allclose(
            collective_s(kernel, {"byte": byte, "link_byte_s": NEVER}, launch_s=1)[0], factor, rtol=1e-4
        )  # fmt: skip


def test_a_one_shot_all_reduce_sends_all_to_all_in_one_hop(kernel):
    tiny = {"byte": 6e3, "custom": 1}  # far from its workspace of 6 MB
    one_shot_s = 0.5 * (10 + 0.5 * 2 * 3) + 7 * 6e3 / (0.87 * 1e11)
    assert_allclose(collective_s(kernel, tiny, launch_s=10, hop_s=2, one_shot_ratio=0.5)[0], one_shot_s, rtol=1e-2)
    assert collective_s(kernel, {"custom": 1})[0] == pytest.approx(collective_s(kernel)[0])  # no good for 1 GB
    for kind, custom in (("all_reduce", 1), ("all_gather", 0)):
        assert made(kind, custom=True)[0]["custom"] == custom
    assert made("all_reduce", chip="l40s", custom=True)[0]["custom"] == 0


def test_the_host_issues_no_faster_than_it_can(kernel):
    assert collective_s(kernel, {"host_issued": 1}, issue_s=10)[0] == pytest.approx(10)
    assert collective_s(kernel, issue_s=10)[0] == collective_s(kernel)[0]


# --- links ------------------------------------------------------------------------------------------------------------
def test_ranks_that_share_a_hosts_pcie_contend(kernel):
    assert_allclose(collective_s(kernel, {"crowd": 4}, contention=0.5)[2], 2 * 0.0175)
    assert_allclose(collective_s(kernel, link_ratio=0.5)[2], 2 * 0.0175)
    assert [made("all_reduce", ranks, "l40s")[0]["crowd"] for ranks in (2, 4, 8)] == [1, 2, 4]
    assert made("all_reduce", 8, "l40s")[0]["link_byte_s"] == 32e9


def test_beyond_the_scale_up_domain_the_network_card_is_the_link():
    shape, members = made("all_reduce", 16, "h100-sxm")
    assert members[0] == "network"
    assert shape["link_byte_s"] == pytest.approx(400e9 / 8 * 8**0.5)  # a share each of 400 Gbit/s, eight to send with
    assert (shape["in_switch"], shape["crowd"]) == (0, 1)
    assert made("all_reduce", 8, "h100-sxm")[0]["link_byte_s"] == 450e9
    assert made("all_reduce", 8, "h100-sxm", per_node=1)[0]["link_byte_s"] == pytest.approx(400e9 / 8)
    assert made("all_reduce", 72, "gb300")[1][0] == "nvswitch"


def test_a_network_that_is_not_published_is_assumed():
    assert made("all_reduce", 2, "maia-100", per_node=1)[0]["link_byte_s"] == NETWORK_ASSUMED_BYTE_S


def test_paired_cards_use_their_bridge_and_beyond_the_pair_pcie():
    pair, pair_members = made("all_reduce", 2, "a40")
    four, four_members = made("all_reduce", 4, "a40")
    eight, _ = made("all_reduce", 8, "a40")
    assert (pair["link_byte_s"], pair_members[0]) == (56.25e9, "nvlink-pair")
    assert (four["link_byte_s"], four_members[0]) == (32e9, "pcie")
    assert (pair["crowd"], four["crowd"], eight["crowd"]) == (1, 1, 2)


def test_members_of_a_collective():
    assert made("all_reduce", 16, "h100-sxm")[1] == (
        "network", "hopper", "NCCL", "network|all_reduce|16", "h100-sxm|network",
    )  # fmt: skip


def test_a_chip_without_a_published_link_is_refused():
    with pytest.raises(MissingFigureError, match="mlu690 has no scale_up_byte_s"):
        made("all_reduce", 1, "mlu690")


# --- rows -------------------------------------------------------------------------------------------------------------
ROW = {
    "chip": "H100-SXM", "library": "NCCL", "collective": "all_gather", "num_gpus": "4", "message_bytes": "5000",
    "devices_per_node": "",
}  # fmt: skip


def parsed(**changed):
    row = row_parse(ROW | changed)
    return dict(zip(COLLECTIVES.shape, row.shape, strict=True)), row


def test_a_row_becomes_shape_members_and_group():
    shape, row = parsed()
    assert shape == {
        "byte": 5000, "ranks": 4, "slices": 0.75, "steps": 3, "copy_share": 0.25, "point": 0, "link_byte_s": 450e9,
        "crowd": 1, "in_switch": 0, "custom": 0, "host_issued": 0,
    }  # fmt: skip
    assert row.members == ("nvswitch", "hopper", "NCCL", "nvswitch|all_gather|4", "h100-sxm|nvswitch")
    assert row.group == "all_gather|4"


def test_libraries_mean_different_things_by_a_message():
    assert parsed(library="oneCCL")[0]["byte"] == 20_000
    assert parsed(library="oneCCL", collective="all_reduce")[0]["byte"] == 5000
    assert parsed(library="TensorRT-LLM custom", collective="all_reduce")[0]["custom"] == 1
    assert parsed(library="NCCL (Vidur)")[0]["host_issued"] == 1
    assert parsed(library="NCCL (Vidur)")[1].members[2] == "Vidur"


def test_ranks_on_several_nodes_go_through_the_network():
    assert parsed(devices_per_node="1")[1].members[0] == "network"
    assert parsed(devices_per_node="4")[1].members[0] == "nvswitch"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"collective": "broadcast"}, 'collective "broadcast" is not known; known are all_reduce, '),
        ({"num_gpus": "1"}, "num_gpus is 1, not a number from 2 up"),
        ({"message_bytes": "0"}, "message_bytes is 0, not a number from 1 up"),
        ({"devices_per_node": "few"}, 'devices_per_node is "few", not a number'),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(changed, reason):
    with pytest.raises(KernelRowError, match=reason):
        parsed(**changed)
