import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from scenarios.placement import THETA_MOST, ServedShare

rates = arrays(np.float64, (3, 2), elements=st.sampled_from([0.0, 0.0, 500.0, 1000.0, 2500.0]))
demands = arrays(np.float64, 3, elements=st.sampled_from([0.0, 800.0, 5000.0, 12000.0]))
counts = arrays(np.float64, 2, elements=st.sampled_from([0.0, 1.0, 4.0, 9.0]))


def theta_oracle(rate, demand, hosts):
    """The same linear program, written down plainly and solved by another code path."""
    services, kinds = rate.shape
    upper, bound = [], []
    for m in range(services):
        if demand[m] > 0:
            row = np.zeros(services * kinds + 1)
            row[m * kinds : (m + 1) * kinds], row[-1] = -rate[m], demand[m]
            upper.append(row)
            bound.append(0.0)
    for k in range(kinds):
        row = np.zeros(services * kinds + 1)
        row[k : services * kinds : kinds] = 1.0
        upper.append(row)
        bound.append(hosts[k])
    answer = linprog([0.0] * services * kinds + [-1.0], A_ub=upper, b_ub=bound, method="highs-ipm")
    assert answer.status == 0
    return -answer.fun


@given(rates, demands, counts)
def test_the_served_share_is_that_of_the_plain_program(rate, demand, hosts):
    served = ServedShare(3, 2)
    theta = served.theta(rate_tok_s=rate, demand_tok_s=demand, hosts=hosts)
    if not demand.any():
        assert theta == THETA_MOST
    else:
        assert theta == pytest.approx(theta_oracle(rate, demand, hosts), rel=1e-6, abs=1e-7)


@given(st.lists(st.tuples(rates, demands, counts), min_size=2, max_size=5))
def test_a_kept_solver_answers_as_a_new_one(questions):
    kept = ServedShare(3, 2)
    for rate, demand, hosts in questions:
        fresh = ServedShare(3, 2).theta(rate_tok_s=rate, demand_tok_s=demand, hosts=hosts)
        assert kept.theta(rate_tok_s=rate, demand_tok_s=demand, hosts=hosts) == pytest.approx(fresh, rel=1e-9)


def test_one_service_is_served_by_the_sum_of_its_hosts():
    theta = ServedShare(1, 2).theta(
        rate_tok_s=np.array([[1000.0, 250.0]]), demand_tok_s=np.array([4500.0]), hosts=np.array([4.0, 2.0])
    )
    assert theta == pytest.approx(1.0)


def test_a_service_that_runs_nowhere_leaves_nothing_to_share():
    theta = ServedShare(2, 1).theta(
        rate_tok_s=np.array([[1000.0], [0.0]]), demand_tok_s=np.array([1.0, 1.0]), hosts=np.array([9.0])
    )
    assert theta == 0.0
