"""The simulator beside queueing theory, where theory is exact.

Steps take a constant time here, so a replica that runs c sequences at once is c parallel servers, and an answer of n
tokens is a service of n steps: the one token of a prompt emits the first. Figures are means over seeds with their
99.9 % confidence interval; every run forgets its first fifth, when the system fills.
"""

import numpy as np
import pytest

from accelerator.ledger import BINS, Latency, bin_edges_s
from accelerator.requests import Workload
from accelerator.simulation import Load, LoadKind, Plan, Pool, Router
from accelerator.simulator import simulate
from tests.accelerator.simulations import table

STEP_S = 2.0**-14
SEEDS = 20
T_999 = 3.883
"""Student's t of 19 degrees of freedom: 99.9 % of estimates lie within so many standard errors."""


def confidence(values):
    """Return the mean over seeds and half the width of its 99.9 % confidence interval."""
    values = np.asarray(values)
    return values.mean(axis=0), T_999 * values.std(axis=0, ddof=1) / np.sqrt(len(values))


def served(servers, *, rate_s=1.0, services, seed, n, replicas=1, **plan):
    """Return the outcome of n requests to so many servers that arrive as a Poisson process. [1/s]"""
    rng = np.random.default_rng((servers, seed))
    arrival_s = np.cumsum(rng.exponential(1 / rate_s, n))
    workload = Workload("poisson", arrival_s, np.ones(n, dtype=np.int64), services(rng, n))
    pool = Pool("servers", table(max(servers, 64), servers, fixed_s=STEP_S), replicas=replicas)
    outcome = simulate(Plan([pool], seed=seed, **plan), workload, keep_requests=True)
    assert outcome.finished == n
    return outcome


def waits_s(outcome):
    """Return how long each request waited for a server. [s]"""
    kept = outcome.kept
    return (kept["first_s"] - STEP_S - kept["arrival_s"])[outcome.arrived // 5 :]


def constant(tok):
    return lambda rng, n: np.full(n, tok)


def geometric(mean_tok):
    return lambda rng, n: rng.geometric(1 / mean_tok, n)


def short_or_long(short_tok, long_tok, share):
    return lambda rng, n: np.where(rng.random(n) < share, long_tok, short_tok)


# --- one server -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("load", [0.5, 0.7, 0.85])
@pytest.mark.parametrize(
    ("services", "mean_tok", "square_tok2"),
    [
        (constant(16), 16, 16**2),
        (geometric(16), 16, 2 * 16**2 - 16),
        (short_or_long(8, 80, 0.1), 0.9 * 8 + 0.1 * 80, 0.9 * 8**2 + 0.1 * 80**2),
    ],
    ids=["constant", "geometric", "short or long"],
)
def test_one_server_waits_as_pollaczek_and_khinchine_say(load, services, mean_tok, square_tok2):
    """W = rate E[S^2] / 2 (1 - load) for services of any kind."""
    rate_s = load / (mean_tok * STEP_S)
    outcomes = (served(1, rate_s=rate_s, services=services, seed=seed, n=100_000) for seed in range(SEEDS))
    found_s, half_s = confidence([waits_s(outcome).mean() for outcome in outcomes])
    expected_s = rate_s * square_tok2 * STEP_S**2 / (2 * (1 - load))
    assert found_s == pytest.approx(expected_s, abs=half_s)
    assert half_s < 0.1 * expected_s


def test_clients_that_think_are_a_closed_loop_with_one_server():
    """Machine repair: n clients think for Z = 4 S on average; k are at the server as n! / (n - k)! (S / Z)^k."""
    mean_tok, clients = 2**10, 6
    service_s = mean_tok * STEP_S
    load = Load(LoadKind.CLOSED, clients, think_s=4 * service_s, think_random=True)
    shares = np.cumprod([1.0, *((clients - k) / 4 for k in range(clients))])
    expected = 1 - shares[0] / shares.sum()  # the server is busy
    figures = []
    for seed in range(SEEDS):
        outcome = served(1, services=geometric(mean_tok), seed=seed, n=10_000, load=load)
        figures.append(next(outcome.pool_rows())["busy_ratio"])
    found, half = confidence(figures)
    assert found == pytest.approx(expected, abs=half)
    assert half < 0.01


# --- many servers -----------------------------------------------------------------------------------------------------
def erlang_c(servers, load):
    """Return the probability that all of so many servers are busy."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


@pytest.mark.parametrize(
    ("servers", "load", "published", "n"),
    [(10, 8, 0.4092, 100_000), (20, 16, 0.2561, 100_000), (100, 90, 0.2169, 200_000), (100, 95, 0.5065, 300_000)],
)
def test_many_servers_wait_as_erlang_says(servers, load, published, n):
    """Services are geometric with a mean of 2^14 steps, close to exponential.

    Steps are shared, so a request that finds a free server in the middle of one waits for its end: those count as
    waiting that wait for longer than a step. That is the edge of a bin, so the histogram knows their share.
    """
    assert erlang_c(servers, load) == pytest.approx(published, abs=5e-5)
    beyond, figures = bin_edges_s()[:BINS] >= STEP_S, []
    for seed in range(SEEDS):
        outcome = served(servers, rate_s=float(load), services=geometric(2**14), seed=seed, n=n)
        all_s = outcome.kept["first_s"] - STEP_S - outcome.kept["arrival_s"]
        assert outcome.ledger.histogram[0, Latency.QUEUE, beyond].sum() == (all_s > STEP_S).sum()
        figures.append(((waits_s(outcome) > STEP_S).mean(), waits_s(outcome).mean()))
    (found, found_s), (half, half_s) = confidence(figures)
    expected_s = published / (servers - load)  # a mean service takes a second
    assert found == pytest.approx(published, abs=half)
    assert found_s == pytest.approx(expected_s, abs=half_s)
    assert half < 0.1 * published
    assert half_s < 0.25 * expected_s


# --- routers ----------------------------------------------------------------------------------------------------------
def queues(router, *, replicas=100, load=0.9, n=200_000, seeds=SEEDS):
    """Return mean waits at many servers with a queue each. [s]"""
    plan = {"replicas": replicas, "router": router, "services": geometric(2**14)}
    outcomes = (served(1, rate_s=load * replicas, seed=seed, n=n, **plan) for seed in range(seeds))
    return confidence([waits_s(outcome).mean() for outcome in outcomes])


def test_random_routing_makes_queues_that_know_nothing_of_each_other():
    """Each is a single server with load 0.9 and exponential services of a second: W = load / (1 - load)."""
    found_s, half_s = queues(Router.RANDOM)
    assert found_s == pytest.approx(9, abs=half_s)
    assert half_s < 0.5


def test_the_better_of_two_queues_is_what_mitzenmacher_says():
    """With ever more servers a share load^(2^k - 1) of them has k requests or more; a hundred of them are close.

    Time in the system is the sum of those shares over the rate of a server; a second of it is service.
    """
    found_s, half_s = queues(Router.POWER_OF_TWO)
    expected_s = sum(0.9 ** (2**k - 1) for k in range(1, 12)) / 0.9 - 1
    assert found_s == pytest.approx(expected_s, rel=0.03)
    assert half_s < 0.03 * expected_s


def test_the_more_a_router_sees_the_less_is_waited():
    """And no router waits less than one queue for all servers."""
    waits = [queues(router, n=50_000, seeds=5)[0] for router in (Router.RANDOM, Router.ROUND_ROBIN)]
    waits += [queues(router, n=50_000, seeds=5)[0] for router in (Router.POWER_OF_TWO, Router.LEAST_OUTSTANDING)]
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] > erlang_c(100, 90) / 10
