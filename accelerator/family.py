"""What every operator family states: the columns of its kernel files, its shape, its parameters, its levels of pooling.

A family is one physical formula, ``time = f(shape, parameters)``, written twice: readable in ``_roofline_py`` and
compiled in ``_roofline``. Its module (``gemm``, ``attention``, ``latent``, ``experts``, ``collectives``) derives flop
and bytes, names the parameters, and turns a row of a kernel file, or an operator of a step, into a shape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from accelerator.chips import ChipSpec, chip_get
from accelerator.errors import AcceleratorError, PrecisionError
from accelerator.pooling import Parameter

CORES_ASSUMED = 128.0
"""Cores of a chip whose count is not public: that of the median data-centre chip that is. [-]"""

SMALL_CORES = frozenset({
    "ampere", "ada", "hopper", "blackwell", "blackwell-rtx", "xe2", "davinci", "cdna3", "cdna4", "musa", "metax",
    "hygon",
})  # fmt: skip
"""Architectures whose cores work on a tile each, as the formulas take it: a TPU's two or a Trainium's eight do not."""

CACHE_ASSUMED_BYTE = 50e6
"""Last-level cache of a chip whose size is not public. [byte]"""


COLD_CACHE_BYTE = 1.0
"""Cache of a chip inside a serving step: layers follow each other, so nothing of a layer is left from the step before.
[byte]"""

ENGINES: Mapping[str, str] = MappingProxyType({
    "trtllm": "trtllm", "tensorrt-llm": "trtllm", "vllm": "vllm", "sglang": "sglang", "vllm-ascend": "vllm-ascend",
    "vllm/sarathi (vidur profiler)": "vidur",
    "torch": "vllm",  # a device measured by itself: the same libraries
})  # fmt: skip
"""Engine families by what kernel files call them, in lower case. Any other name is a family that was not seen."""

ENGINE_USUAL: Mapping[str, str] = MappingProxyType({"davinci": "vllm-ascend"})
"""Engine family by architecture where it is not vllm."""


Chips = Mapping[str, ChipSpec] | None
"""Chips by slug; None: the built-in catalog."""


class KernelRowError(AcceleratorError):
    """A row of a kernel file that cannot be predicted; the text is the reason."""


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One row of a kernel file as a family sees it.

    Parameters
    ----------
    shape : tuple of float
        In the order of ``Family.shape``, base units.
    members : tuple of str
        Member of each level, in the order of ``Family.levels``; the last one begins with the chip and a bar.
    group : str
        Shape group that is held out as a whole in cross-validation.
    """

    shape: tuple[float, ...]
    members: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class Family:
    """One operator family.

    Parameters
    ----------
    name : str
        Also the name of its calibration file.
    code : int
        By which the kernels know the formula.
    columns : frozenset of str
        A kernel file with all of these columns belongs to the family.
    shape : tuple of str
        Names of the shape columns; the first grows with the tokens of a step. Units as in the names.
    parameters : tuple of Parameter
        Fitted.
    levels : tuple of str
        What the members of each level of pooling are; the last level is the finest, and names the chip first.
    row_parse : callable
        Row of a kernel file (texts by column), chips it may name -> KernelRow; raises AcceleratorError with the reason.
    source : str
        Where the rows it is fitted to were published.
    launches : int
        Kernels behind one call, whose launches a captured graph makes cheap; 0: what is measured holds in a graph too.
    """

    name: str
    code: int
    columns: frozenset[str]
    shape: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    levels: tuple[str, ...]
    row_parse: Callable[[Mapping[str, str], Chips], KernelRow]
    source: str
    launches: int = 1


def row_chip(name: str, chips: Chips = None) -> ChipSpec:
    """Return the chip that a kernel file names, among the given ones (the built-in catalog if left out)."""
    return chip_get(name, chips)


def row_number(row: Mapping[str, str], column: str, least: float = 1.0) -> float:
    """Return a number of a row that is at least so much; KernelRowError names the column."""
    text = row.get(column) or ""
    try:
        value = float(text)
    except ValueError:
        raise KernelRowError(f'{column} is "{text}", not a number') from None
    if not least <= value < float("inf"):
        raise KernelRowError(f"{column} is {text}, not a number from {least:g} up")
    return value


def peak_flop_s(chip: ChipSpec, precision: str) -> float:
    """Return a chip's dense peak in a precision; PrecisionError if it has none. [flop/s]"""
    if precision not in chip.peak_flop_s:
        raise PrecisionError(f"{chip.slug} does not compute in {precision}; it has {', '.join(chip.peak_flop_s)}")
    return chip.peak_flop_s[precision].value


def cores_of(chip: ChipSpec) -> float:
    """Return a chip's cores; the assumed number where none is published, or they are few and large. [-]"""
    return chip.cores.value if chip.cores and chip.architecture in SMALL_CORES else CORES_ASSUMED


def cache_byte_of(chip: ChipSpec) -> float:
    """Return a chip's last-level cache, or the assumed size where none is published. [byte]"""
    return chip.cache_byte.value if chip.cache_byte else CACHE_ASSUMED_BYTE


def engine_of(name: str) -> str:
    """Return the engine family of a name in a kernel file."""
    return ENGINES.get(name.lower(), name.lower())


def kernels_slug(chip: ChipSpec) -> str:
    """Return whose kernels a chip runs: its own, or those of the chip that it is a form of."""
    return chip.derived_from or chip.slug


def engine_usual(chip: ChipSpec) -> str:
    """Return the engine family that usually serves on a chip."""
    return ENGINE_USUAL.get(chip.architecture, "vllm")


def chip_of(members: Sequence[str]) -> str:
    """Return the chip of a cell, by its members."""
    return members[-1].split("|")[0]


def joined(*names: str) -> str:
    """Return the name of a member that several things make together."""
    return "|".join(names)
