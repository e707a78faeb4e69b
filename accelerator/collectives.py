"""Collectives: all-reduce, all-gather, reduce-scatter, all-to-all, send and receive.

``message_bytes`` M is the whole buffer. With n ranks in a ring, each rank sends M 2 (n-1)/n for an all-reduce (reduce,
then gather), M (n-1)/n for the others, M for a send; a message needs 2 (n-1) hops, n - 1, 1 + log2 n (all-to-all) or 1.
Switches that add up (NVLS) halve what an all-reduce sends. All but all-reduce and send copy the own slice of M / n
inside the chip.

    start       = (launch + hops hop_s) (1 + 0.12 as soon as a message outgrows the smallest protocol)
    simple      = (sqrt(wire / rate + copied) + sqrt(fill))^2        a pipeline with the best number of chunks
    low latency = wire / (rate ll_ratio)                             no fill, but flags beside the data
    time        = start + the smaller of the two, with a smooth edge

rate = link x link_ratio, less by (n/2)^-contention where ranks share a host's PCIe. Beyond the scale-up domain the link
is the network: a chip's share of it, times the square root of the ranks that a node has to send with. TensorRT-LLM's
one-shot all-reduce sends everything to everybody, in one hop.
"""

import math
from collections.abc import Mapping

from accelerator.chips import ChipSpec
from accelerator.family import Chips, Family, KernelRow, KernelRowError, joined, row_chip, row_number
from accelerator.pooling import Parameter

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv")

NETWORK_ASSUMED_BYTE_S = 10e9
"""Network of a chip whose host's network is not published: 80 Gbit/s, as cloud hosts of paired cards have. [byte/s]"""

ADDING_SWITCH = frozenset({"hopper", "blackwell"})
"""Architectures whose switches add up."""

T, A, L, G, C = range(5)  # topology, architecture, library, topology|collective|ranks, chip|topology
PARAMETERS = (
    Parameter("launch_s", "s", "start and end of a collective", 5e-6, 0.5, 0.3),
    Parameter("hop_s", "s", "one hop of a minimal message", 1e-6, 0.5, 0.25, (T, A, C)),
    Parameter("link_ratio", "1", "share of the link that large messages reach", 0.75, 0.3, 0.15, (T, A, G, C)),
    Parameter("fill_s", "s", "filling the pipeline of the large-message protocol", 2e-6, 0.7, 0.4, (T, A, G, C)),
    Parameter("copy_byte_s", "byte/s", "own slice copied inside the chip", 8e11, 0.5, 0.2, (T, A, C)),
    Parameter(
        "low_latency_ratio", "1", "share of that rate that the low-latency protocol reaches", 0.25, 0.5, 0.3, (T, A, C)
    ),
    Parameter("point_byte_s", "byte/s", "low-latency rate of point-to-point channels", 2e10, 0.6, 0.3, (T, A, C)),
    Parameter("contention", "1", "exponent of ranks that share a host's PCIe", 0.4, 0.8, 0.6, (A, C)),
    Parameter(
        "one_shot_ratio", "1", "launch of the one-shot all-reduce over that of the library", 0.57, 0.3, 0.2, (A, C)
    ),
    Parameter("issue_s", "s", "host time to issue one collective outside of a graph", 3.5e-5, 0.6, 0.4, (A, C)),
    Parameter("switch_ratio", "1", "bytes sent per byte of message where the switch adds up", 1.4, 0.2, 0.1, (A,)),
)

SOURCE = (
    "ai-dynamo/aiconfigurator@095f58a (NCCL 2.27-2.29, oneCCL, TensorRT-LLM), microsoft/vidur@7d47513 data/profiling"
)


def collective_row(
    chip: ChipSpec,
    kind: str,
    *,
    byte: float,
    ranks: float,
    library: str,
    per_node: float | None = None,
    custom: bool = False,
    host_issued: bool = False,
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return shape and members of one collective.

    Parameters
    ----------
    byte : float
        Whole buffer. [byte]
    ranks : float
        Chips that take part.
    library : str
        Member of the library level.
    per_node : float, optional
        Ranks of one scale-up domain; all of them if left out and there is room, else as many as it holds.
    custom, host_issued : bool
        An engine's one-shot all-reduce may be used; issued outside of a graph.
    """
    if per_node is None:
        per_node = min(ranks, max(chip.scale_up_chips, chip.host_chips if chip.link_kind == "nvlink-pair" else 1))
    topology, crowd = chip.link_kind, 1.0
    if per_node < ranks:
        topology, link_byte_s = "network", _network_byte_s(chip) * math.sqrt(per_node)
    elif topology == "nvlink-pair" and ranks > 2:
        topology, crowd = "pcie", ranks / 4
        link_byte_s = (chip.pcie_byte_s or chip.scale_up_byte_s).value
    else:
        link_byte_s = chip.scale_up_byte_s.value
        crowd = ranks / 2 if topology == "pcie" else 1.0
    slices = {"all_reduce": 2 * (ranks - 1) / ranks, "send_recv": 1.0}.get(kind, (ranks - 1) / ranks)
    steps = {"all_reduce": 2 * (ranks - 1), "alltoall": 1 + math.log2(ranks), "send_recv": 1.0}.get(kind, ranks - 1)
    shape = (
        byte,
        ranks,
        slices,
        steps,
        0.0 if kind in {"all_reduce", "send_recv"} else 1 / ranks,
        float(kind in {"alltoall", "send_recv"}),
        link_byte_s,
        crowd,
        float(kind == "all_reduce" and topology == "nvswitch" and chip.architecture in ADDING_SWITCH),
        float(custom and kind == "all_reduce" and topology == "nvswitch"),
        float(host_issued),
    )
    members = (
        topology, chip.architecture, library, joined(topology, kind, f"{ranks:g}"), joined(chip.slug, topology),
    )  # fmt: skip
    return shape, members


def _network_byte_s(chip: ChipSpec) -> float:
    known = chip.given.get("scale_out_byte_s")
    return known.value if known else NETWORK_ASSUMED_BYTE_S


def row_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of a collectives file."""
    kind, library = row["collective"], row["library"]
    if kind not in KINDS:
        raise KernelRowError(f'collective "{kind}" is not known; known are {", ".join(KINDS)}')
    ranks, byte = row_number(row, "num_gpus", 2), row_number(row, "message_bytes")
    if library == "oneCCL" and kind == "all_gather":
        byte *= ranks  # these rows give what one rank brings
    vidur = "Vidur" in library
    shape, members = collective_row(
        row_chip(row["chip"], chips),
        kind,
        byte=byte,
        ranks=ranks,
        library="Vidur" if vidur else library,
        per_node=row_number(row, "devices_per_node") if row.get("devices_per_node") else ranks,
        custom="TensorRT" in library,
        host_issued=vidur,
    )
    return KernelRow(shape, members, joined(kind, f"{ranks:g}"))


COLLECTIVES = Family(
    name="collectives",
    code=7,
    columns=frozenset({"chip", "library", "collective", "num_gpus", "message_bytes"}),
    shape=(
        "byte", "ranks", "slices", "steps", "copy_share", "point", "link_byte_s", "crowd", "in_switch", "custom",
        "host_issued",
    ),
    parameters=PARAMETERS,
    levels=("topology", "architecture", "library", "topology|collective|ranks", "chip|topology"),
    row_parse=row_parse,
    source=SOURCE,
    launches=0,
)  # fmt: skip
