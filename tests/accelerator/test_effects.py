"""Effects on straight lines whose truth is known: common values, deviations and doubt must come out as put in."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from accelerator.effects import SCALE_FLOOR, Members, effects_fit, tangent
from accelerator.pooling import Parameter

PARAMETERS = (
    Parameter("level", "1", "what all rows share", 1.0, 1.0, 0.3),
    Parameter("slope", "1", "how a row answers to its size", 1.0, 1.0, 0.3),
)
LEVELS = ("chip", "engine")
TAU = np.array([[0.3, 0.2], [0.3, 0.0]])
COMMON = np.array([0.5, -0.3])
CHIPS = {"a": (0.3, 0.1), "b": (-0.2, -0.2), "c": (0.0, 0.15), "d": (-0.1, -0.05)}
ENGINES = {"x": 0.25, "y": -0.25}
NOISE = 0.03


class Case:
    """Rows of chips and engines: log value = level + slope x size."""

    def __init__(self, count=240, seed=1, outliers=0):
        rng = np.random.default_rng(seed)
        chips, engines = rng.choice(list(CHIPS), count), rng.choice(list(ENGINES), count)
        self.rows = [{"chip": str(a), "engine": str(b)} for a, b in zip(chips, engines, strict=True)]
        self.size = rng.uniform(-2, 2, count)
        theta = COMMON[:, None] + np.array([CHIPS[chip] for chip in chips]).T
        theta[0] += [ENGINES[engine] for engine in engines]
        self.exact = theta[0] + self.size * theta[1]
        self.observed = self.exact + NOISE * rng.standard_normal(count)
        self.observed[:outliers] += np.log(5) * rng.choice((-1, 1), outliers)

    def fit(self, **how):
        members = Members.of(self.rows, LEVELS)
        kinds = ["all"] * len(self.rows)
        return effects_fit(self.model, self.observed, members, kinds, parameters=PARAMETERS, tau=TAU, **how)

    def model(self, theta):
        return theta[0] + self.size * theta[1]


@pytest.fixture(scope="module")
def fit():
    return Case().fit()


def of_rows(fit, *rows):
    return Members.within(rows, fit.members.levels, fit.members.names)


def test_common_values_are_recovered_within_their_sd(fit):
    sd = np.sqrt(np.diag(fit.common_covariance))
    assert (np.abs(fit.common - COMMON) < 2 * sd).all()
    assert (sd > 0).all()
    assert (sd < 0.4).all()
    assert fit.rows == 240


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("chip", CHIPS)
def test_parameters_of_a_seen_row_are_recovered(fit, chip, engine):
    truth = COMMON + CHIPS[chip] + np.array([ENGINES[engine], 0.0])
    assert_allclose(fit.thetas(of_rows(fit, {"chip": chip, "engine": engine}))[:, 0], truth, atol=0.025)


def test_deviations_are_recovered_within_their_sd(fit):
    for deviation, variance, truth in zip(
        fit.deviations, fit.variances, (CHIPS.values(), [(v, 0.0) for v in ENGINES.values()]), strict=True
    ):
        assert (np.abs(deviation - list(truth)) <= 2 * np.sqrt(variance) + 1e-12).all()
        assert (variance <= 0.5).all()


def test_the_noise_is_found(fit):
    assert fit.scales["all"] == pytest.approx(NOISE, rel=0.25)


def test_kinds_have_noise_of_their_own_and_none_below_the_floor():
    case = Case(count=400)
    loud = np.arange(400) % 2 == 0
    case.observed = np.where(loud, case.exact + 5 * (case.observed - case.exact), case.exact)
    kinds = np.where(loud, "loud", "exact")
    members = Members.of(case.rows, LEVELS)
    fit = effects_fit(case.model, case.observed, members, kinds, parameters=PARAMETERS, tau=TAU)
    assert fit.scales["loud"] == pytest.approx(5 * NOISE, rel=0.25)
    assert SCALE_FLOOR <= fit.scales["exact"] < 2 * SCALE_FLOOR


def test_a_level_that_may_not_deviate_does_not(fit):
    assert_array_equal(fit.deviations[1][:, 1], 0.0)
    assert_array_equal(fit.variances[1][:, 1], 0.0)
    assert fit.tau[1][1] == 0


def test_a_member_without_rows_deviates_by_nothing_and_is_as_uncertain_as_its_level_scatters(fit):
    known, new = {"chip": "a", "engine": "x"}, {"chip": "never seen", "engine": "x"}
    members = of_rows(fit, known, new)
    theta, variance = fit.thetas(members), fit.theta_variances(members)
    assert_allclose(theta[:, 0] - theta[:, 1], fit.deviations[0][0])
    assert_allclose(variance[:, 1] - variance[:, 0], fit.tau[0] ** 2 - fit.variances[0][0])
    nothing = of_rows(fit, {"chip": "", "engine": "never seen"})
    assert_allclose(fit.thetas(nothing)[:, 0], fit.common)
    assert_allclose(fit.theta_variances(nothing)[:, 0], np.diag(fit.common_covariance) + (fit.tau**2).sum(axis=0))


def test_a_member_known_by_name_alone_keeps_the_prior():
    case = Case()
    at = Members.of([*case.rows, {"chip": "e", "engine": "x"}], LEVELS)
    members = Members(at.levels, at.names, at.index[:, :-1])
    fit = effects_fit(case.model, case.observed, members, ["all"] * 240, parameters=PARAMETERS, tau=TAU)
    e = at.names[0].index("e")
    assert_array_equal(fit.deviations[0][e], 0.0)
    assert_allclose(fit.variances[0][e], fit.tau[0] ** 2, rtol=1e-9)


def test_outliers_of_a_factor_of_five_move_the_fit_little(fit):
    spoilt = Case(outliers=12).fit()
    rows = of_rows(fit, *({"chip": chip, "engine": engine} for chip in CHIPS for engine in ENGINES))
    assert np.abs(spoilt.thetas(rows) - fit.thetas(rows)).max() < 0.03


def test_the_same_rows_twice_give_identical_bytes(fit):
    again = Case().fit()
    for name in ("common", "tau", "common_covariance"):
        assert getattr(again, name).tobytes() == getattr(fit, name).tobytes()
    for name in ("deviations", "variances"):
        for one, other in zip(getattr(again, name), getattr(fit, name), strict=True):
            assert one.tobytes() == other.tobytes()
    assert again.scales == fit.scales


def test_scatter_is_learned_unless_told_not_to(fit):
    assert_array_equal(Case().fit(learn=False).tau, TAU)
    far = Case()
    far.observed += 1.5 * np.array([row["chip"] == "a" for row in far.rows])
    assert far.fit().tau[0][0] > fit.tau[0][0]
    assert (fit.tau[TAU > 0] > 0).all()


def test_rows_that_say_nothing_leave_the_prior():
    case = Case(count=20)
    case.observed = np.zeros(20)
    fit = effects_fit(
        lambda theta: np.zeros(theta.shape[1]), case.observed, Members.of(case.rows, LEVELS), ["all"] * 20,
        parameters=PARAMETERS, tau=TAU,
    )  # fmt: skip
    assert_allclose(fit.common, 0, atol=1e-12)
    assert_allclose(np.diag(fit.common_covariance), 1.0)
    for level, variance in enumerate(fit.variances):
        assert_allclose(variance, np.broadcast_to(fit.tau[level] ** 2, variance.shape))


def test_the_tangent_of_a_line_is_its_slope():
    size = np.array([1.0, -2.0, 0.5])
    value, slopes = tangent(lambda theta: theta[0] + size * theta[1], np.ones((2, 3)))
    assert_allclose(value, 1 + size)
    assert_allclose(slopes, [np.ones(3), size], rtol=1e-8)


def test_members_are_named_in_order_and_what_is_not_known_is_none():
    rows = [{"chip": "b"}, {"chip": ""}, {"chip": "a"}]
    members = Members.of(rows, ("chip",))
    assert members.names == (("a", "b"),)
    assert_array_equal(members.index, [[1, -1, 0]])
    assert_array_equal(Members.within([{"chip": "z"}, {"chip": "a"}], ("chip",), members.names).index, [[-1, 0]])
