"""Partial pooling on synthetic chips: what was put in must come out, and come out with the right doubt."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator.pooling import T_OVER_NORMAL, TAU_FLOOR, Parameter, Rows, pooled_fit
from accelerator.units import Z90

PARAMETERS = (
    Parameter("launch_s", "s", "launch", 5e-6, 1.0, 0.3),
    Parameter("byte_s", "byte/s", "rate", 1e12, 1.0, 0.3),
)
LAUNCH_S, BYTE_S = 8e-6, 2e12


def time_s(shape, parameters):
    return parameters[0] + shape[:, 0] / parameters[1]


def rows_of(truth, *, counts, noise=0.03, seed=1):
    """Return rows of cells ``(architecture, chip): (launch_s, byte_s)``."""
    rng = np.random.default_rng(seed)
    shape, members, latency_s = [], [], []
    for (architecture, chip), values in truth.items():
        count = counts if isinstance(counts, int) else counts[chip]
        sizes = np.exp(rng.uniform(np.log(1e5), np.log(1e9), count))[:, None]
        exact_s = time_s(sizes, np.array(values)[:, None] * np.ones(count))
        shape.append(sizes)
        members += [(architecture, chip)] * count
        latency_s.append(exact_s * np.exp(noise * rng.standard_normal(count)))
    columns = np.array(members, dtype=object).T
    return Rows(np.concatenate(shape), tuple(columns), np.concatenate(latency_s))


TRUTH = {
    ("a", "a1"): (LAUNCH_S, BYTE_S),
    ("a", "a2"): (1.2 * LAUNCH_S, 0.8 * BYTE_S),
    ("a", "a3"): (0.85 * LAUNCH_S, 1.2 * BYTE_S),
    ("b", "b1"): (2 * LAUNCH_S, 0.5 * BYTE_S),
    ("b", "b2"): (2.2 * LAUNCH_S, 0.6 * BYTE_S),
}
ROWS = rows_of(TRUTH, counts=80)


@pytest.fixture(scope="module")
def fit():
    return pooled_fit(time_s, PARAMETERS, ROWS)


@pytest.mark.parametrize("cell", TRUTH, ids=lambda cell: cell[1])
def test_parameters_of_a_measured_chip_are_recovered(fit, cell):
    theta, covariance, sigma = fit.cell(cell)
    assert_allclose(np.exp(theta), TRUTH[cell], rtol=0.05)
    deviation = np.sqrt(np.diag(covariance))
    assert (np.abs(theta - np.log(TRUTH[cell])) < 4 * deviation).all()
    assert (deviation < 0.03).all()
    assert 0.8 * 0.03 < sigma < 1.3 * 0.03  # P90 of the noise over that of a unit normal, within its own error


def test_what_is_common_lies_between_the_chips(fit):
    low, high = (np.log([edge(values) for values in zip(*TRUTH.values(), strict=True)]) for edge in (min, max))
    assert (low < fit.common).all()
    assert (fit.common < high).all()
    assert fit.rows == 400
    assert fit.members == (("a", "b"), ("a1", "a2", "a3", "b1", "b2"))


def test_rows_that_say_nothing_of_a_parameter_leave_it_to_the_kin():
    """The fourth chip launches four times as slowly as its kin; of large messages, which do not show it, or of all."""
    truth = {("a", f"a{i}"): (LAUNCH_S * factor, BYTE_S) for i, factor in enumerate((0.97, 1, 1.03, 4))}
    rows = rows_of(truth, counts=80)
    blind = (rows.members[1] != "a3") | (rows.shape[:, 0] > 5e8)
    assert 3 <= (blind & (rows.members[1] == "a3")).sum() < 20
    shown, hidden = (pooled_fit(time_s, PARAMETERS, part).cell(("a", "a3")) for part in (rows, rows.take(blind)))
    assert np.exp(shown[0][0]) == pytest.approx(4 * LAUNCH_S, rel=0.05)
    assert 0.7 * LAUNCH_S < np.exp(hidden[0][0]) < 2 * LAUNCH_S
    assert_allclose(np.exp([shown[0][1], hidden[0][1]]), BYTE_S, rtol=0.1)  # the rate is seen in both
    assert hidden[1][0, 0] > 20 * shown[1][0, 0]


def test_three_rows_are_pulled_towards_the_kin():
    truth = {("a", f"a{i}"): (LAUNCH_S, BYTE_S * factor) for i, factor in enumerate((0.97, 1, 1.03, 2))}
    common = dict.fromkeys(("a0", "a1", "a2"), 80)
    fast = [
        float(
            np.exp(
                pooled_fit(time_s, PARAMETERS, rows_of(truth, counts=common | {"a3": count}, noise=0.3)).cell(
                    ("a", "a3")
                )[0][1]
            )
        )
        for count in (3, 300)
    ]
    assert BYTE_S < fast[0] < 0.9 * fast[1]
    assert fast[1] == pytest.approx(2 * BYTE_S, rel=0.1)


def test_a_chip_never_seen_is_its_architecture_with_the_scatter_of_chips_on_top(fit):
    theta, covariance, sigma = fit.cell(("a", "new"))
    assert_allclose(theta, fit.common + fit.deviations[0][0])
    kin, _, _ = fit.cell(("a", "a1"))
    assert_allclose(theta - kin, -fit.deviations[1][0])
    known = covariance - np.diag(fit.tau[1] ** 2)  # that of the architecture alone
    assert (np.linalg.eigvalsh(known) > 0).all()
    assert (np.diag(covariance) > fit.tau[1] ** 2).all()
    kin = [fit.sigma[at] for at, cell in enumerate(fit.cells) if fit.members[0][cell[0]] == "a"]
    assert_allclose(sigma, T_OVER_NORMAL * np.sqrt(np.mean(np.square(kin))))  # errors as those of its kin
    assert_allclose(fit.cell(("c", "new"))[2], T_OVER_NORMAL * fit.sigma_common)  # without kin, as those of all


def test_nothing_known_is_the_common_value_with_every_scatter_on_top(fit):
    theta, covariance, _ = fit.cell(("new", "new"))
    assert_allclose(theta, fit.common)
    one_level = fit.cell(("a", "new"))[1]
    assert (np.diag(covariance) > (fit.tau**2).sum(axis=0)).all()
    assert (np.diag(covariance) > np.diag(one_level)).all()


def test_scatter_of_chips_is_found():
    factors = np.exp(0.4 * np.random.default_rng(3).standard_normal(30))
    truth = {("a", f"chip{i:02}"): (LAUNCH_S, BYTE_S * factor) for i, factor in enumerate(factors)}
    fit = pooled_fit(time_s, PARAMETERS, rows_of(truth, counts=15))
    assert fit.tau[1][1] == pytest.approx(0.4, rel=0.3)
    assert fit.tau[1][0] < 0.15  # launches do not scatter at all


def test_a_parameter_deviates_only_at_its_levels():
    parameters = (
        Parameter("launch_s", "s", "launch", 5e-6, 1.0, 0.3, levels=(0,)),
        PARAMETERS[1],
    )
    fit = pooled_fit(time_s, parameters, ROWS)
    assert fit.tau[1][0] == TAU_FLOOR / 20
    assert np.abs(fit.deviations[1][:, 0]).max() < 1e-3
    assert np.abs(fit.deviations[1][:, 1]).max() > 0.05


def test_outliers_of_a_factor_of_three_move_nothing(fit):
    latency_s = ROWS.latency_s.copy()
    latency_s[::17] *= 3
    latency_s[5::23] /= 3
    spoiled = pooled_fit(time_s, PARAMETERS, Rows(ROWS.shape, ROWS.members, latency_s))
    for cell in TRUTH:
        assert_allclose(spoiled.cell(cell)[0], fit.cell(cell)[0], atol=0.04)


def test_the_same_rows_give_the_same_bytes(fit):
    again = pooled_fit(time_s, PARAMETERS, ROWS)
    for name in ("common", "tau", "information", "sigma"):
        assert getattr(again, name).tobytes() == getattr(fit, name).tobytes()
    assert [level.tobytes() for level in again.deviations] == [level.tobytes() for level in fit.deviations]


def test_predictions_hold_their_share_of_new_rows(fit):
    fresh = rows_of(TRUTH, counts=400, seed=99)
    median_s, deviation = fit.predict(time_s, fresh)
    z = np.log(fresh.latency_s / median_s) / deviation
    assert np.median(np.abs(median_s / fresh.latency_s - 1)) < 0.03
    assert 0.72 < np.mean(np.abs(z) < Z90) < 0.9


def test_chips_left_out_lie_in_their_bands():
    """Forty chips of one kind, one hundred more that were never shown."""
    rng = np.random.default_rng(5)
    values = np.exp(np.log((LAUNCH_S, BYTE_S)) + 0.3 * rng.standard_normal((140, 2)))
    truth = {("a", f"chip{i:03}"): tuple(row) for i, row in enumerate(values)}
    shown = dict(list(truth.items())[:40])
    fit = pooled_fit(time_s, PARAMETERS, rows_of(shown, counts=12))
    theta, covariance, _ = fit.cell(("a", "new"))
    z = (np.log(values[40:]) - theta) / np.sqrt(np.diag(covariance))
    assert 0.65 < np.mean(np.abs(z) < 1.2816) < 0.92
    fresh = rows_of(dict(list(truth.items())[40:]), counts=5, seed=6)
    median_s, deviation = fit.predict(time_s, fresh)
    assert 0.65 < np.mean(np.abs(np.log(fresh.latency_s / median_s) / deviation) < 1.2816) < 0.92


def test_rows_are_predicted_in_their_own_order(fit):
    order = np.random.default_rng(8).permutation(len(ROWS))
    median_s, deviation = fit.predict(time_s, ROWS)
    shuffled = fit.predict(time_s, ROWS.take(order))
    assert_allclose(shuffled[0], median_s[order])
    assert_allclose(shuffled[1], deviation[order])
    assert len(fit.predict(time_s, ROWS.take(np.array([], dtype=int)))[0]) == 0
