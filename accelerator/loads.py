"""What loads make of an engine's steps: latencies and rates of rows, by how users ask.

D(B), A(B): see ``serving``. A replica runs at most C sequences (limits of engine and KV memory).

**closed**, N users of a replica, at most C of whom run (limits of engine and KV memory): each of the B that decode is
held up by the prompts of the others, TPOT = D(B) + mix (B - 1) A / o; a prompt meets the prompts under way, a share
f = B A / o / TPOT of the time, and a share ``wave`` of those that start with it,
TTFT = request_s + 3/2 D + A (1 + f / (2 (1 - f))) + wave (B - 1) / 2 x A when many are read together. Little's law
gives B = N o TPOT / (TTFT + (o - 1) TPOT), found by iteration; users beyond C wait for their turn.

**static**, N in, all out: prefill of all together, then o - 1 steps at the mean context.

**full**: C sequences decode, each step carries B / o prompts. **limited**: the largest B whose TPOT is below
``limit_ratio`` times the limit; **decode**: the same where other workers read the prompts. **burst**, M at once: the
first C are read, mixed into decodes; then as full, until the last has run out; TTFT is queueing. **open**: B = rate o
TPOT where that is below C, otherwise as a burst that arrives at the rate, whose surplus is read before others go on.
**split**: D(B) of decode workers alone; prompts queue for the prefill workers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from accelerator.roofline import Floats
from accelerator.serving import CHUNK_TOK, INDEX, KINDS, Loads, Steps, loads_take

OUTPUTS = ("tpot_s", "ttft_s", "tok_s", "prefill_s", "e2e_s", "input_tok_s")
"""What :func:`serve` returns per row: latencies [s], output tokens of the whole deployment per second [tok/s], time to
read a static batch, time until it is done [s], prompt tokens per second [tok/s]."""

OPEN_REQUESTS = 1000.0
"""Requests of an open loop whose number a row does not say: what engines' benchmarks send."""

SEQS_MOST = 4000.0
"""No group of any engine runs more sequences at once."""

Outputs = Mapping[str, Floats]


def serve(loads: Loads, theta: Floats) -> dict[str, Floats]:
    """Return the outputs of every row for its parameters; NaN where a load says nothing of one.

    Parameters
    ----------
    theta : float64[P, n]
        Parameters of each row, in their units.
    """
    result = {name: np.full(len(loads.kind), np.nan) for name in OUTPUTS}
    for kind, formula in FORMULAS.items():
        at = np.flatnonzero(loads.kind == KINDS.index(kind))
        if len(at):
            for name, column in formula(_Case.of(loads_take(loads, at), theta[:, at])).items():
                result[name][at] = column
    return result


@dataclass(frozen=True, eq=False)
class _Case:
    """Rows under one kind of load, with what all formulas need.

    Parameters
    ----------
    parameters : mapping of str to float64[n]
        By name; ``request_s`` with the part that grows with the prompt.
    per_step, rounds : float64[n]
        Tokens that a sequence gets per step, steps of an answer.
    context_tok : float64[n]
        Mean context of a decoding sequence. [tok]
    most : float64[n]
        Sequences that one replica runs at most.
    """

    loads: Loads
    steps: Steps
    parameters: Mapping[str, Floats]
    per_step: Floats
    rounds: Floats
    context_tok: Floats
    most: Floats

    @classmethod
    def of(cls, loads: Loads, theta: Floats) -> "_Case":
        parameters = {name: theta[at] for name, at in INDEX.items()}
        parameters["request_s"] = parameters["request_s"] + parameters["request_tok_s"] * loads.input_tok
        per_step = 1 + np.minimum(parameters["accepted"] * loads.accept_ratio, 1.0) * loads.speculative_tok
        most = _smooth_min(parameters["seqs_most"] * loads.groups, loads.room_seqs)
        most = np.minimum(most, SEQS_MOST * loads.groups)
        return cls(
            loads=loads,
            steps=Steps(loads, theta, loads.main),
            parameters=parameters,
            per_step=per_step,
            rounds=np.maximum(loads.output_tok / per_step, 1.0),
            context_tok=loads.input_tok + loads.output_tok / 2,
            most=np.where(loads.padded_seqs > 0, loads.padded_seqs, most),
        )

    @property
    def users(self) -> Floats:
        """Users or requests of a replica; 1 where the load does not say."""
        return np.nan_to_num(self.loads.users, nan=1.0)

    def decode_s(self, batch: Floats) -> Floats:
        """D(B). [s]"""
        return self.steps.decode_s(batch, self.context_tok, self.loads.speculative_tok)

    def together(self, prompts: Floats, queued: Floats | float = 0.0) -> Floats:
        """Return how many of some prompts a step reads together; where others are queued, one in each group."""
        prompts = np.maximum(prompts, np.minimum(queued, self.loads.groups))
        most = self.loads.groups * CHUNK_TOK / np.maximum(self.loads.input_tok, 1.0)
        return np.clip(prompts, 1.0, np.maximum(1.0, most))

    def prompt_s(self, batch: Floats, together: Floats | float = 1.0) -> Floats:
        """A(B) of one prompt among those that are read together. [s]"""
        return self.steps.prompt_s(batch, self.loads.input_tok, together, self.context_tok) / together

    def held_up(self, batch: Floats, others: Floats, queued: Floats | float = 0.0) -> tuple[Floats, Floats]:
        """Return the mean step of a sequence among others, and what one prompt adds to steps. [s]"""
        prompt_s = self.prompt_s(batch, self.together(others / self.rounds, queued))
        return self.decode_s(batch) + self.parameters["mix"] * others / self.rounds * prompt_s, prompt_s

    def full_s(self, batch: Floats, prompt_s: Floats) -> Floats:
        """Return the step that carries B / o prompts. [s]"""
        return self.decode_s(batch) + batch / self.rounds * prompt_s


def _smooth_min(a: Floats, b: Floats, power: float = 4.0) -> Floats:
    smooth: Floats = (a**-power + b**-power) ** (-1 / power)
    return smooth


def _closed(case: _Case) -> Outputs:
    loads, own, rounds = case.loads, case.parameters, case.rounds
    running = np.minimum(case.users, case.most)
    batch = running.copy()
    others = np.maximum(running - 1, 0.0)
    for _ in range(4):
        step_s, prompt_s = case.held_up(batch, others * batch / np.maximum(running, 1.0))
        busy = np.clip(others * prompt_s / (rounds * step_s), 0.0, 0.9)
        each_s = case.prompt_s(batch, case.together(others))
        ttft_s = (
            own["request_s"]
            + 1.5 * case.decode_s(batch)  # half a step to wait, and the step that carries the prompt
            + case.prompt_s(batch)
            + own["queue"] * each_s * busy / (2 * (1 - busy))
            + np.minimum(own["wave"], 1.0) * others / 2 * each_s
        )
        service_s = ttft_s + (rounds - 1) * step_s
        batch = np.maximum(running * np.maximum(rounds - 1, 0.5) * step_s / service_s, np.minimum(running, 1.0))
    cycle_s = service_s * case.users / running  # those beyond what runs wait for their turn
    request_s = loads.replicas * case.users / cycle_s
    return {
        "tpot_s": step_s / case.per_step,
        "ttft_s": ttft_s + cycle_s - service_s,
        "tok_s": request_s * loads.output_tok,
        "e2e_s": cycle_s,
        "prefill_s": ttft_s,
        "input_tok_s": request_s * loads.input_tok,
    }


def _static(case: _Case) -> Outputs:
    loads, number = case.loads, case.users
    turns = np.maximum(1.0, number / np.maximum(loads.room_seqs, 1.0))
    batch = number / turns
    prefill_s = batch * case.prompt_s(np.zeros_like(batch), batch)
    step_s = case.decode_s(batch)
    done_s = turns * (prefill_s + np.maximum(case.rounds - 1, 0.0) * step_s)
    return {
        "tpot_s": step_s / case.per_step,
        "ttft_s": prefill_s + case.parameters["request_s"],
        "prefill_s": prefill_s,
        "e2e_s": done_s,
        "tok_s": loads.replicas * number * loads.output_tok / done_s,
        "input_tok_s": loads.replicas * batch * loads.input_tok / prefill_s,
    }


def _full(case: _Case) -> Outputs:
    loads = case.loads
    batch = np.where(np.isnan(loads.users), case.most, np.minimum(case.most, case.users))
    _, prompt_s = case.held_up(batch, batch, batch)
    full_s = case.full_s(batch, prompt_s)
    tok_s = loads.replicas * batch * case.per_step / full_s * case.parameters["full_ratio"]
    return {
        "tpot_s": full_s / case.per_step,
        "tok_s": tok_s,
        "input_tok_s": tok_s * loads.input_tok / loads.output_tok,
        "ttft_s": case.parameters["request_s"] + full_s + prompt_s,
    }


def _limited(case: _Case) -> Outputs:
    return _within(case, 1.0)


def _decode(case: _Case) -> Outputs:
    within = _within(case, 0.0)
    return {name: within[name] for name in ("tpot_s", "tok_s")}


def _within(case: _Case, prompts: float) -> Outputs:
    """Return what the latency limit allows; ``prompts``: 1 where the replica reads them itself, 0 where others do."""
    loads, own = case.loads, case.parameters
    limit_s = own["limit_ratio"] * loads.limit_s * case.per_step
    low, high = np.log(np.minimum(loads.groups, case.most)), np.log(case.most)  # no group of a deployment idles
    for _ in range(16):
        middle = (low + high) / 2
        batch = np.exp(middle)
        slow = case.held_up(batch, prompts * batch, batch)[0] > limit_s
        high, low = np.where(slow, middle, high), np.where(slow, low, middle)
    batch = np.exp((low + high) / 2)
    step_s, prompt_s = case.held_up(batch, prompts * batch, batch)
    full_s = case.full_s(batch, prompts * prompt_s)
    tok_s = loads.replicas * batch * case.per_step / full_s * own["full_ratio"]
    busy = np.clip(batch / case.rounds * prompt_s / full_s, 0.0, 0.9)
    return {
        "tpot_s": step_s / case.per_step,
        "tok_s": tok_s,
        "ttft_s": own["request_s"] + step_s / 2 + prompt_s * (1 + own["queue"] * busy / (1 - busy)),
        "input_tok_s": tok_s * loads.input_tok / loads.output_tok,
    }


def _burst(case: _Case) -> Outputs:
    loads, own, number, rounds = case.loads, case.parameters, case.users, case.rounds
    batch = np.minimum(number, case.most)
    alone_s = case.decode_s(batch)
    together = case.together(batch)
    each_s = case.prompt_s(batch / 2, together)
    _, prompt_s = case.held_up(batch, batch, batch)
    first_s = batch * each_s  # until the first batch is read
    rest = np.maximum(number - batch, 0.0)
    drain_s = rest * rounds * case.full_s(batch, prompt_s) / batch
    done_s = first_s + drain_s + (own["tail"] + 0.3) * rounds * alone_s
    waited_s = own["queue"] * (batch * first_s / 2 + rest * (first_s + drain_s / 2)) / number
    mixed_s = alone_s + own["mix"] * (batch * first_s / 2 + rest * batch * each_s) / number / rounds
    return {
        "tpot_s": mixed_s / case.per_step,
        "ttft_s": own["request_s"] + each_s * together + waited_s,
        "tok_s": loads.replicas * number * loads.output_tok / done_s,
        "e2e_s": done_s,
        "input_tok_s": loads.replicas * number * loads.input_tok / done_s,
    }


def _open(case: _Case) -> Outputs:
    loads, own, rounds = case.loads, case.parameters, case.rounds
    rate_s = np.nan_to_num(loads.rate_s, nan=1.0)
    batch = np.minimum(case.most, 1.0)
    for _ in range(15):
        step_s, prompt_s = case.held_up(batch, batch)
        batch = np.clip(0.5 * batch + 0.5 * rate_s * rounds * step_s, 0.2, case.most)
    can_s = batch / (rounds * case.full_s(batch, prompt_s))
    number = OPEN_REQUESTS / loads.replicas
    busy = np.clip(rate_s * prompt_s, 0.0, 0.9)
    late_s = np.where(batch >= 0.98 * case.most, np.maximum(0.0, number / can_s - number / rate_s) / 2, 0.0)
    # where more arrive than leave, prompts go first, as in a burst: those who decode wait until the surplus is read
    surplus = np.clip(1 - can_s / rate_s, 0.0, 1.0) * np.minimum(number, case.most)
    step_s = step_s + own["mix"] * surplus * case.prompt_s(batch, case.together(surplus)) / (2 * rounds)
    span_s = number / np.minimum(rate_s, can_s) + (own["tail"] + 0.5) * rounds * step_s
    return {
        "tpot_s": step_s / case.per_step,
        "ttft_s": own["request_s"] + step_s / 2 + prompt_s * (1 + busy / (2 * (1 - busy))) + own["queue"] * late_s,
        "tok_s": loads.replicas * number * loads.output_tok / span_s,
        "input_tok_s": loads.replicas * number * loads.input_tok / span_s,
    }


def _prefill(case: _Case) -> Outputs:
    loads = case.loads
    number = np.maximum(1.0, CHUNK_TOK * loads.groups / np.maximum(loads.input_tok, 1.0))
    read_s = number * case.prompt_s(np.zeros_like(number), number)
    return {
        "input_tok_s": loads.replicas * number * loads.input_tok / read_s,
        "prefill_s": read_s,
        "ttft_s": read_s,
    }


def _split(case: _Case) -> Outputs:
    loads, own, rounds = case.loads, case.parameters, case.rounds
    reading = Steps(loads, case.steps.theta, loads.prefill)
    users = np.nan_to_num(loads.users, nan=64.0)
    all_users = users * loads.replicas
    # a prompt is read by one group; a step over all groups carries one for each
    read_s = reading.prompt_s(np.zeros_like(users), loads.input_tok, loads.prefill_groups, case.context_tok)
    servers = np.maximum(1.0, loads.prefill_replicas * loads.prefill_groups)
    ttft_s, step_s = read_s.copy(), read_s.copy()
    for _ in range(5):
        share = np.clip(rounds * step_s / (ttft_s + rounds * step_s), 0.05, 1.0)
        step_s = case.decode_s(np.maximum(users * share, np.minimum(users, 1.0)))
        queued_s = np.maximum(0.0, all_users * read_s / servers - rounds * step_s)
        busy = np.clip(all_users * read_s / servers / (ttft_s + rounds * step_s), 0.0, 0.9)
        ttft_s = (
            own["request_s"]
            + np.hypot(read_s, queued_s)
            + read_s * busy / (2 * (1 - busy)) / np.sqrt(servers)
            + np.minimum(own["wave"], 1.0) * np.maximum(all_users - servers, 0.0) / servers * read_s / 2
        )
    cycle_s = ttft_s + (rounds - 1) * step_s
    return {
        "tpot_s": step_s / case.per_step,
        "ttft_s": ttft_s,
        "tok_s": all_users * loads.output_tok / cycle_s,
        "input_tok_s": all_users * loads.input_tok / cycle_s,
        "prefill_s": read_s,
    }


FORMULAS: Mapping[str, Callable[[_Case], Outputs]] = MappingProxyType({
    "closed": _closed,
    "static": _static,
    "burst": _burst,
    "full": _full,
    "limited": _limited,
    "decode": _decode,
    "open": _open,
    "prefill": _prefill,
    "split": _split,
})  # fmt: skip
"""Formula of each kind of load."""
