"""What is replayed, as plain values: a service in the peak hour of a period, and the hosts and replicas it has."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from accelerator import DeploymentConfig, Slo, TokenMix
from scenarios.planning.plain import ProblemError, given, plain_of
from scenarios.planning.problem import DECODE, PHASES, PREFILL, WHOLE

SAMPLES_LEAST = 3
"""Fewest samples of a kind."""

BALANCE_RATIO = 1e-3
"""Prompts and answers of a plan may differ by so much. [-]"""

CACHE_HIT_MOST = 0.99
"""No warm prefix cache is said to hold more of the tokens of prompts. [-]"""


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """How one replica is spread over chips."""

    weight_precision: str = given("Of the linear layers.")
    kv_precision: str = given("Of the KV cache.", default="bf16")
    tp: int = given("Chips of an attention group.", default=1, least=1)
    pp: int = given("Pipeline stages.", default=1, least=1)
    ep: int = given("Chips over which whole experts are spread.", default=1, least=1)
    dp: int = given("Attention groups.", default=1, least=1)
    max_batched_tok: int = given(
        "Most tokens of a step; 0: left open, as by the closed formula: what strains the promise least is taken.",
        unit="tok",
        default=0,
        least=0,
    )
    max_seqs: int = given("Most sequences of a step; 0: left open.", default=0, least=0)
    engine: str = given("Engine family; empty: the usual one of the chip.", default="")
    expert_skew: float = given("How unevenly tokens choose experts.", default=0.0, least=0.0, most=2.0)

    @property
    def is_open(self) -> bool:
        """Whether the limits of a step are left open."""
        return not (self.max_batched_tok and self.max_seqs)

    def config(self) -> DeploymentConfig:
        """Return the config; with the usual limits of a step where they are open."""
        values = plain_of(self)
        if self.is_open:
            del values["max_batched_tok"], values["max_seqs"]
        return DeploymentConfig(**values)


@dataclass(frozen=True, slots=True)
class UnitValues:
    """What was rated as one: a replica, or some that read prompts beside some that decode, on one chip."""

    chip: str = given("Chip.")
    host_chips: int = given("Chips of a host.", least=1)
    config: ConfigValues = given("Of its replicas; of those that decode, if others read prompts.")
    replicas: int = given("How many of them.", default=1, least=1)
    prefill: ConfigValues | None = given("Of the replicas that read prompts only.", default=None)
    prefill_replicas: int = given("How many of those.", default=0, least=0)

    @property
    def chips(self) -> int:
        """Chips of all its replicas."""
        reading = self.prefill.config().chips * self.prefill_replicas if self.prefill else 0
        return self.config.config().chips * self.replicas + reading

    @property
    def per_host(self) -> float:
        """Units that one host holds: whole ones, or a share where one fills several hosts. [-]"""
        return self.host_chips // self.chips if self.chips <= self.host_chips else self.host_chips / self.chips


@dataclass(frozen=True, slots=True)
class LoadValues:
    """Hosts of a kind that a service fills in a place, in one phase."""

    place: str = given("Place.")
    site: str = given("Site: prompts and answers of a request are at one.")
    kind: str = given("Kind of host.")
    hosts: float = given("Filled by its traffic.", least=0.0)
    tok_s: float = given("What one filled host does, by the plan.", unit="tok/s", least=0.0)
    unit: UnitValues = given("What was rated, and what stands there.")
    phase: str = given("Part of the service that it does.", default=WHOLE, choices=PHASES)
    replicas: float | None = given(
        "Whole units of its traffic; none: not rounded, so as many as the hosts hold.", default=None, least=0.0
    )
    flips: bool = given("Whether its traffic has come in this period, so that its prefix cache is cold.", default=False)


@dataclass(frozen=True, slots=True)
class ReplayQuestion:
    """One service in the peak hour of one period, as a plan has it."""

    period: str = given("Name of the period.")
    service: str = given("Service.")
    model: str = given("Model.")
    mix: TokenMix = given("Lengths and burstiness of its requests.")
    ttft_s: float = given("Limit of the time to first token.", unit="s", least=1e-6)
    tpot_s: float = given("Limit of the time per output token.", unit="s", least=1e-6)
    percentile: float = given("Share of requests that keeps each.", unit="-", least=0.01, most=0.9999)
    demand_tok_s: float = given("Output tokens demanded in the peak hour.", unit="tok/s", least=0.0)
    loads: tuple[LoadValues, ...] = given("Where it is served.")
    tier: str = given("Service level.", default="standard")
    region: str = given("Region.", default="")
    seed: int = given("Of its requests.", default=1, least=0)
    samples: int = given("Samples of all kinds together, at least.", default=8, least=SAMPLES_LEAST, most=256)
    reserve_ratio: float = given(
        "Share of each host that is kept free and that the traffic is spread over; 0: replicas run at their rating.",
        unit="-",
        default=0.0,
        least=0.0,
        most=0.95,
    )
    cache_hit_ratio: float = given(
        "Share of the tokens of prompts that a warm prefix cache holds; lengths of the mix are what is left to read.",
        unit="-",
        default=0.0,
        least=0.0,
        most=CACHE_HIT_MOST,
    )
    cache_warm_s: float = given(
        "Time constant at which a cold cache warms. An assumption.", unit="s", default=600.0, least=1.0
    )

    @property
    def slo(self) -> Slo:
        """The promise."""
        return Slo(self.ttft_s, self.tpot_s, self.percentile)


@dataclass(frozen=True, slots=True)
class ReplayPayload:
    """What one worker replays."""

    questions: tuple[ReplayQuestion, ...] = given("Services and periods, in order.")
    calibration_digest: str = given("Of the engines that the ratings stood on; empty: planning values.", default="")


def units_of(load: LoadValues, reserve_ratio: float) -> float:
    """Return the units that serve a load: whole ones as the plan rounds them, else ``hosts x per host / (1 - g)``.

    A host counts as filled when its replicas run at their rating. With g > 0 the traffic of ``hosts`` filled hosts is
    spread over hosts / (1 - g), which is what the plan has for it: of each it keeps g free. [-]
    """
    return load.hosts * load.unit.per_host / (1 - reserve_ratio) if load.replicas is None else load.replicas


def question_check(question: ReplayQuestion, place: str) -> None:
    """Raise ProblemError for loads that do not serve, or whose prompts are not its answers."""
    errors: list[tuple[str, str]] = []
    read: dict[str, float] = defaultdict(float)
    written: dict[str, float] = defaultdict(float)
    if not question.mix.output_tok > 0:
        errors.append((f"{place}.mix.output_tok", "requests have no answers"))
    for at, load in enumerate(question.loads):
        if load.phase != DECODE:
            read[load.site if load.phase == PREFILL else ""] += load.hosts * load.tok_s
        if load.phase != PREFILL:
            written[load.site if load.phase == DECODE else ""] += load.hosts * load.tok_s
        if load.hosts * load.tok_s > 0 and units_of(load, question.reserve_ratio) <= 0:
            errors.append((f"{place}.loads[{at}].replicas", f"none serve {load.hosts:g} hosts of {load.kind}"))
        if load.phase != WHOLE and load.unit.prefill is not None:
            errors.append((f"{place}.loads[{at}].unit.prefill", "a phase has one config"))
    for site in sorted({*read, *written} - {""}):
        if abs(read[site] - written[site]) > BALANCE_RATIO * max(read[site], written[site]):
            text = f"at {site} prompts of {read[site]:g} tok/s are read, answers of {written[site]:g} tok/s made"
            errors.append((f"{place}.loads", text))
    if errors:
        raise ProblemError(errors)


def load_ratio(tok_s: float, units: float, unit: UnitValues, loads: Sequence[LoadValues]) -> float:
    """Return the planned rate of a unit over what the plan takes its rating for. [-]"""
    hosts = sum(load.hosts for load in loads)
    rated_tok_s = sum(load.hosts * load.tok_s for load in loads) / hosts / unit.per_host
    return tok_s / units / rated_tok_s
