"""One trial of a rating: a layout, a rate, the stream of the mix through the simulator, two percentiles."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import AcceleratorError, ConfigError
from accelerator.memory import MemoryFit, memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.outcome import Outcome
from accelerator.pooling import Floats
from accelerator.pools import pool_build
from accelerator.profiles import PROFILES
from accelerator.requests import TokenMix, Workload
from accelerator.simulation import Limits, Plan, Pool, Progress, Role, Router
from accelerator.simulator import simulate
from accelerator.steady import Slo, arrival_scv
from accelerator.steps import StepTable, step_table_build
from accelerator.streams import Stream, stream_draw, stream_of

SPAN_S, SPAN_PER_TOK_S = 120.0, 0.5
"""A trial spans so many seconds, or so many per token of the mean answer if that is longer: a queue that grows by a few
per cent has then grown beyond any limit, and full batches have been replaced many times."""

TRIAL_LEAST, TRIAL_MOST = 4096, 8192
"""Fewest and most requests of a trial."""

SCREEN_REQUESTS, CONFIRM_REQUESTS = 2048, 24_576
"""Requests of a short trial, and of a long one: long answers come rarely and stay for long."""

WAITING_LEAST, WAITING_TTFT = 256, 20
"""A trial is over when more requests wait than arrive in so many limits of TTFT: it cannot hold any more."""

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


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked: chip, model, mix and limits, with what all candidates share.

    Parameters
    ----------
    chip, model, mix, slo
        See ``goodput.goodput_search``.
    engine : callable
        Efficiency at which a config of a model is rated on a chip.
    arrival_scv_max : float
        Cap of the variability of arrivals. [-]
    workload : Workload or None
        Lengths of a mix that is no built-in profile.
    streams : dict of (int, bool) to Stream
        Requests drawn so far, by how many and whether they are cut.
    """

    chip: ChipSpec
    model: ModelSpec
    mix: TokenMix
    slo: Slo
    engine: Callable[[ChipSpec, ModelSpec, DeploymentConfig], Efficiency]
    arrival_scv_max: float = DEFAULT.arrival_scv_max
    workload: Workload | None = None
    streams: dict[tuple[int, bool], Stream] = field(default_factory=dict)

    def efficiency_of(self, config: DeploymentConfig) -> Efficiency:
        """Return the efficiency at which a config is rated."""
        return self.engine(self.chip, self.model, config)

    def table(self, config: DeploymentConfig) -> StepTable:
        """Return the step table of a config."""
        return step_table_build(self.chip, self.model, config, efficiency=self.efficiency_of(config))

    def fit(self, config: DeploymentConfig) -> MemoryFit:
        """Return what fits beside the weights of a config."""
        return memory_fit(self.chip, self.model, config, efficiency=self.efficiency_of(config))

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

    def pools(self, layout: Layout) -> list[Pool]:
        """Return the replicas of a layout for the simulator."""
        config, prefill = layout.config, layout.prefill
        efficiency = self.efficiency_of(config)
        if prefill is None:
            return [pool_build("replica", self.chip, self.model, config, efficiency=efficiency)]
        return [
            pool_build(
                "prefill", self.chip, self.model, prefill, efficiency=self.efficiency_of(prefill), role=Role.PREFILL,
                replicas=layout.prefill_replicas, link_byte_s=prefill.chips * _link_byte_s(self.chip),
            ),
            pool_build(
                "decode", self.chip, self.model, config, efficiency=efficiency, role=Role.DECODE,
                replicas=layout.replicas,
            ),
        ]  # fmt: skip

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
