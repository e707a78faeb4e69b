"""One trial of a rating: a layout, a rate, the stream of the mix through the simulator, two percentiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.engines import efficiency_fitted, engine_median
from accelerator.errors import AcceleratorError, ConfigError, ModelDoesNotFitError
from accelerator.memory import MemoryFit, memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.outcome import Outcome
from accelerator.pooling import Floats
from accelerator.pools import TRANSFER_S, kv_blocks
from accelerator.profiles import PROFILES
from accelerator.requests import TokenMix, Workload
from accelerator.serving_calibration import ServingCalibration
from accelerator.simulation import Limits, Plan, Pool, Progress, Role, Router
from accelerator.simulator import simulate
from accelerator.steady import Slo, arrival_scv
from accelerator.steps import TILE_TOK, StepTable, step_table_build
from accelerator.streams import Stream, stream_draw, stream_of

SPAN_S, SPAN_PER_TOK_S = 120.0, 0.5
"""A trial spans so many seconds, or so many per token of the mean answer if that is longer: a queue that grows by a few
per cent has then grown beyond any limit, and full batches have been replaced many times."""

TRIAL_LEAST, TRIAL_MOST = 4096, 8192
"""Fewest and most requests of a trial."""

SCREEN_REQUESTS = 2048
"""Requests of a short trial."""

CONFIRM_REQUESTS, CONFIRM_CALM_REQUESTS = 24_576, 16_384
"""Requests of a long trial, and of one of a calm mix."""

CALM_SCV, CALM_TOK = 2.0, 500
"""A mix is calm if the squared coefficient of variation of its gaps and its mean answer are not above these: otherwise
bursts, or long answers that fill the memory, come too rarely for fewer requests to show them. [-], [tok]"""

WAITING_LEAST, WAITING_TTFT = 256, 20
"""A trial is over when more requests wait than arrive in so many limits of TTFT: it cannot hold any more."""

TTFT_POWER = 1 / 3
"""TTFT grows near its limit about as the third power of the TPOT. [-]"""

BATCHED_MOST_TOK, SEQS_MOST = 8192, 1024
"""Widest limits of a step that are tried, per group of data-parallel attention. [tok], [-]"""

WIDEST_TOK = 32_768
"""No step of a replica is wider, however many groups it has. [tok]"""

STEPLESS = ("memory_use_ratio", "engine_byte", "weight_scale_ratio", "arrival_scv_max")
"""Inputs of an efficiency that leave every step as it is."""

WARM_RATIO, TAIL_RATIO = 0.1, 0.05
"""Share of the requests, first and last, that are not judged: the batch fills, and empties."""


@dataclass(frozen=True)
class Layout:
    """What is rated as one: a replica, or replicas that read prompts beside others that decode.

    Parameters
    ----------
    config : DeploymentConfig
        Of the replicas that decode, and read prompts if there is no prefill config.
    replicas : int
        How many of them.
    prefill : DeploymentConfig or None
        Of the replicas that read prompts only.
    prefill_replicas : int
        How many of those.
    """

    config: DeploymentConfig
    replicas: int = 1
    prefill: DeploymentConfig | None = None
    prefill_replicas: int = 0

    @property
    def chips(self) -> int:
        """Chips of all replicas together."""
        return self.replicas * self.config.chips + (self.prefill.chips * self.prefill_replicas if self.prefill else 0)

    def host_share_chips(self, host_chips: int) -> float:
        """Return the chips of a host that it takes up, with its share of those that stay idle."""
        return host_chips / max(1, host_chips // self.chips)


@dataclass(frozen=True, eq=False)
class Trial:
    """What a layout did with the stream at one rate: latencies at the percentile, infinite if not served. [s]"""

    ttft_s: float
    tpot_s: float
    outcome: Outcome

    def over(self, slo: Slo) -> float:
        """Return the larger of both latencies over its limit. [-]"""
        return max(self.ttft_s / slo.ttft_s, self.tpot_s / slo.tpot_s)

    def strain(self, slo: Slo) -> float:
        """Return the same, 1 at the same rate, but closer to a straight line: a queue grows far faster than a step."""
        return max((self.ttft_s / slo.ttft_s) ** TTFT_POWER, self.tpot_s / slo.tpot_s)


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked: chip, model, mix and limits, with what all candidates share.

    Parameters
    ----------
    chip, model, mix, slo
        See ``goodput.goodput_search``.
    given : Efficiency or None
        Share of the data sheet that is reached; the fitted engine of each config if None.
    workload : Workload or None
        Lengths of a mix that is no built-in profile.
    calibration : ServingCalibration or None
        Where fitted engines are from; the published one if None.
    streams, efficiencies, tables, fits, fitting : dict
        What was worked out so far: requests by how many and whether they are cut; of each config; configs that memory
        holds, by precision and chips of a host.
    """

    chip: ChipSpec
    model: ModelSpec
    mix: TokenMix
    slo: Slo
    given: Efficiency | None = None
    workload: Workload | None = None
    calibration: ServingCalibration | None = None
    streams: dict[tuple[int, bool], Stream] = field(default_factory=dict)
    efficiencies: dict[DeploymentConfig, Efficiency] = field(default_factory=dict)
    tables: dict[DeploymentConfig, StepTable] = field(default_factory=dict)
    fits: dict[DeploymentConfig, MemoryFit | str] = field(default_factory=dict)
    fitting: dict[tuple[str, int], tuple[list[DeploymentConfig], list[str]]] = field(default_factory=dict)

    @property
    def arrival_scv_max(self) -> float:
        """Cap of the variability of arrivals. [-]"""
        return (self.given or DEFAULT).arrival_scv_max

    def efficiency_of(self, config: DeploymentConfig) -> Efficiency:
        """Return the efficiency at which a config is tried; its engine has no spread (0)."""
        if self.given is not None:
            return self.given
        usual = limits_widest(config)  # limits of a step change no parameter of an engine
        if usual not in self.efficiencies:
            engine = engine_median(self.chip, self.model, usual, self.calibration)
            self.efficiencies[usual] = replace(DEFAULT, engine=engine)
        return self.efficiencies[usual]

    def efficiency_whole(self, config: DeploymentConfig) -> Efficiency:
        """Return the efficiency at which a config is rated, its engine with its spread."""
        return self.given or efficiency_fitted(self.chip, self.model, config, self.calibration)

    def table(self, config: DeploymentConfig) -> StepTable:
        """Return the step table of a config.

        Up to an edge of its tiles it is the beginning of the table with the most tokens of a step that are tried.
        """
        if config not in self.tables:
            most_tok = limits_widest(config).max_batched_tok
            if config.max_batched_tok < most_tok and ends_on_edge(config):
                table = table_beginning(self.table(replace(config, max_batched_tok=most_tok)), config.max_batched_tok)
            else:
                table = step_table_build(self.chip, self.model, config, efficiency=self.efficiency_of(config))
            self.tables[config] = table
        return self.tables[config]

    def table_varied(self, chip: ChipSpec, config: DeploymentConfig, efficiency: Efficiency) -> StepTable:
        """Return the step table of a config for a chip with another figure, or another efficiency.

        An engine that is slower (``Engine.slower``) is slower everywhere; what no step knows of changes none.
        """
        own = self.efficiency_of(config)
        alike = replace(efficiency, engine=own.engine, **{name: getattr(own, name) for name in STEPLESS})
        if chip is not self.chip or alike != own:
            return step_table_build(chip, self.model, config, efficiency=efficiency)
        table = self.table(config)
        if efficiency.engine is None or own.engine is None:
            return table
        return table_slower(table, efficiency.engine.decode_ratio / own.engine.decode_ratio)

    def fit(self, config: DeploymentConfig) -> MemoryFit:
        """Return what fits beside the weights of a config."""
        if config not in self.fits:
            try:
                self.fits[config] = self.fit_varied(self.chip, config, self.given or DEFAULT)
            except ModelDoesNotFitError as error:
                self.fits[config] = str(error)
        found = self.fits[config]
        if isinstance(found, str):
            raise ModelDoesNotFitError(found)
        return found

    def fit_varied(self, chip: ChipSpec, config: DeploymentConfig, efficiency: Efficiency) -> MemoryFit:
        """Return what fits beside the weights of a config, for a chip or an efficiency with another figure."""
        return memory_fit(chip, self.model, config, efficiency=efficiency)

    def stream(self, count: int, *, cut: bool = True) -> Stream:
        """Return so many requests of the mix; cut to what the model reads and writes."""
        if (count, cut) not in self.streams:
            if self.workload is not None:
                drawn = stream_of(self.workload, count)
            elif self.mix.name in PROFILES:
                drawn = stream_draw(self.mix.name, count)
            else:
                raise AcceleratorError(f"mix {self.mix.name} is no built-in profile: its workload is needed")
            self.streams[count, cut] = drawn.cut(self.model.max_context_tok) if cut else drawn
        return self.streams[count, cut]

    @cached_property
    def drawn_mix(self) -> TokenMix:
        """Return the mix with the moments of the requests that are simulated, for bounds: no request is read faster.

        Its 95th percentile of the prompt is the percentile of the limits.
        """
        stream = self.stream(TRIAL_LEAST)
        drawn = stream.at(1.0, 1.0).token_mix()
        return replace(
            self.mix, input_tok=drawn.input_tok, output_tok=drawn.output_tok, context_tok=drawn.context_tok,
            prefill_work_tok2=drawn.prefill_work_tok2,
            input_p95_tok=float(np.quantile(stream.input_tok, self.slo.percentile)),
        )  # fmt: skip

    @cached_property
    def answers_ratio(self) -> float:
        """Return what is left of the mean answer where the model's context cuts the longest. [-]"""
        whole = self.stream(TRIAL_LEAST, cut=False).output_tok
        return float(self.stream(TRIAL_LEAST).output_tok.sum() / whole.sum())

    def count(self, request_s: float) -> int:
        """Return how many requests a trial at a rate has."""
        wanted = request_s * max(SPAN_S, SPAN_PER_TOK_S * self.mix.output_tok)
        return min(max(2 ** math.ceil(math.log2(wanted)), TRIAL_LEAST), TRIAL_MOST)

    @property
    def confirm_requests(self) -> int:
        """Requests of a long trial."""
        is_calm = self.mix.iat_cv**2 <= CALM_SCV and self.mix.output_tok <= CALM_TOK
        return CONFIRM_CALM_REQUESTS if is_calm else CONFIRM_REQUESTS

    def pools(self, layout: Layout, *, factor: float = 1.0) -> list[Pool]:
        """Return the replicas of a layout for the simulator.

        Parameters
        ----------
        factor : float
            Every step takes so many times as long. [-]
        """

        def pool(name: str, config: DeploymentConfig) -> Pool:
            blocks = vars(kv_blocks(self.fit(config)))
            context_tok = self.model.max_context_tok
            return Pool(name, table_slower(self.table(config), factor), context_most_tok=context_tok, **blocks)

        if layout.prefill is None:
            return [pool("replica", layout.config)]
        fit = self.fit(layout.prefill)
        link_byte_s = layout.prefill.chips * _link_byte_s(self.chip)
        reading = replace(
            pool("prefill", layout.prefill),
            role=Role.PREFILL,
            replicas=layout.prefill_replicas,
            transfer_s=TRANSFER_S,
            transfer_s_per_tok=(fit.kv_byte_per_tok + fit.window_byte_per_tok) / link_byte_s,
        )
        return [reading, replace(pool("decode", layout.config), role=Role.DECODE, replicas=layout.replicas)]

    def trial(self, pools: Sequence[Pool], request_s: float, *, requests: int = 0, first: int | None = None) -> Trial:
        """Return what the pools do with the stream at a rate.

        Parameters
        ----------
        request_s : float
            Rate of all replicas together. [1/s]
        requests : int
            Length of the stream; 0 for what the rate needs.
        first : int, optional
            Only so many requests of it.
        """
        scv = arrival_scv(self.mix, request_s, self.arrival_scv_max)
        workload = self.stream(requests or self.count(request_s)).at(request_s, scv)
        if first is not None:
            taken = slice(first)
            workload = Workload(
                workload.name, workload.arrival_s[taken], workload.input_tok[taken], workload.output_tok[taken]
            )
        plan = Plan(
            pools,
            router=Router.LEAST_OUTSTANDING,
            slos=[Limits(self.slo.ttft_s, self.slo.tpot_s)],
            waiting_most=int(min(max(WAITING_LEAST, WAITING_TTFT * request_s * self.slo.ttft_s), 1e6)),
        )
        return trial_of(simulate(plan, workload, keep_requests=True), self.slo.percentile)


def limits_widest(config: DeploymentConfig) -> DeploymentConfig:
    """Return the config with the widest limits of a step that are tried."""
    return replace(
        config,
        max_batched_tok=min(BATCHED_MOST_TOK * config.dp, WIDEST_TOK),
        max_seqs=min(SEQS_MOST * config.dp, WIDEST_TOK // 2),
    )


def ends_on_edge(config: DeploymentConfig) -> bool:
    """Return whether a step's most tokens fill the tiles at which a wider table is worked out too (``steps``)."""
    tiles, rest = divmod(config.max_batched_tok, TILE_TOK * config.micro)
    return not rest and (tiles <= 16 or tiles % 4 == 0)


def table_beginning(table: StepTable, tok: int) -> StepTable:
    """Return the table of steps of up to so many tokens. [tok]"""
    activity = replace(table.activity, linear_busy_s=table.activity.linear_busy_s[: tok + 1])
    return replace(table, linear_s=table.linear_s[: tok + 1], activity=activity)


def table_slower(table: StepTable, factor: float) -> StepTable:
    """Return the table of a replica whose every step takes so many times as long, at the power it has."""
    if factor == 1:
        return table
    return replace(
        table,
        linear_s=table.linear_s * factor,
        decode_s=table.decode_s * factor,
        context_s_per_tok=table.context_s_per_tok * factor,
        window_s_per_tok=table.window_s_per_tok * factor,
        prefill_s_per_tok2=table.prefill_s_per_tok2 * factor,
        window_s_per_tok2=table.window_s_per_tok2 * factor,
        prefill_s=table.prefill_s * factor,
        fixed_s=table.fixed_s * factor,
        activity=replace(table.activity, linear_busy_s=table.activity.linear_busy_s * factor),
    )


def trial_of(outcome: Outcome, percentile: float) -> Trial:
    """Return the latencies of the requests that are judged; infinite if more arrive than are served."""
    if outcome.progress != Progress.DONE or outcome.overload or outcome.kept is None:
        return Trial(math.inf, math.inf, outcome)
    kept, count = outcome.kept, outcome.arrived
    judged = slice(int(WARM_RATIO * count), count - int(TAIL_RATIO * count))
    first_s, tok = kept["first_s"][judged], kept["output_tok"][judged]
    several = tok > 1
    tpot_s = (kept["finish_s"][judged] - first_s)[several] / (tok[several] - 1)
    return Trial(_quantile(first_s - kept["arrival_s"][judged], percentile), _quantile(tpot_s, percentile), outcome)


def _quantile(values: Floats, share: float) -> float:
    """Return the least value that a share does not exceed; what was never served counts as infinite."""
    if not len(values):
        return 0.0
    at = math.ceil(share * len(values)) - 1
    return float(np.partition(np.where(np.isnan(values), np.inf, values), at)[at])


def _link_byte_s(chip: ChipSpec) -> float:
    """Return the link over which KV goes to another chip of the host. [byte/s]"""
    for name in ("scale_up_byte_s", "pcie_byte_s", "scale_out_byte_s"):
        if name in chip.given:
            return chip.given[name].value
    raise ConfigError(f"{chip.slug}: no link between its chips is published")
