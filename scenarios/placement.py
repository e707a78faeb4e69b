"""How demand spreads over hosts of several kinds: a small linear program, kept by HiGHS and asked many times."""

import highspy
import numpy as np

from fleet.snapshot import FloatArray

INFINITY = highspy.kHighsInf
THETA_MOST = 1e9  # a share beyond this says that next to nothing is demanded
NOTICED_RATIO = 1e-7  # a service that loads its hosts, or the hardest service's, by less than this is not noticed


class ServedShare:
    """The largest share of every service's demand that given hosts can serve at once.

    With x[m, k] the hosts of kind k given to service m: maximise theta subject to sum_k rate[m, k] x[m, k] >=
    theta demand[m] for every service and sum_m x[m, k] <= hosts[k] for every kind (the maximum concurrent flow).
    A theta of 1.2 leaves 20 % of headroom in the present mix; below 1 that share of the demand goes unserved.

    Variables are hosts x[m, k], one row a service and one row a kind. The model is kept and only its numbers change:
    building it anew costs several times a solution.

    Parameters
    ----------
    services, kinds : int
        M and K, the shape of the arrays below. [-]
    """

    def __init__(self, services: int, kinds: int) -> None:
        self._services, self._kinds = services, kinds
        self._solver = highspy.Highs()
        for option, value in (("output_flag", False), ("presolve", "off"), ("solver", "simplex"), ("threads", 1)):
            self._solver.setOptionValue(option, value)
        self._share = np.zeros((services, kinds))
        for _ in range(services * kinds):
            self._solver.addVar(0.0, 0.0)
        self._theta = services * kinds
        self._solver.addVar(0.0, INFINITY)
        self._solver.changeColCost(self._theta, -1.0)
        for _ in range(services):
            self._row(0.0, INFINITY, [self._theta], [-1.0])
        for kind in range(kinds):
            columns = [service * kinds + kind for service in range(services)]
            self._row(-INFINITY, 0.0, columns, [1.0] * services)

    def _row(self, lower: float, upper: float, columns: list[int], values: list[float]) -> None:
        self._solver.addRow(lower, upper, len(columns), np.array(columns, dtype=np.int32), np.array(values))

    def restart(self) -> None:
        """Forget the last solution, so that an answer does not depend on what was asked before."""
        self._solver.clearSolver()

    def _set(self, rate_tok_s: FloatArray, demand_tok_s: FloatArray, hosts: FloatArray) -> None:
        """Write the numbers into the model; a demand of 0 leaves a service out.

        Coefficients are shares of a service's demand per host. Callers keep demand within a few orders of magnitude of
        what the hosts could serve: numbers far from 1 would drown in the solver's tolerance.
        """
        wanted = demand_tok_s > 0
        share = np.zeros_like(self._share)
        share[wanted] = rate_tok_s[wanted] / demand_tok_s[wanted, None]
        for service, kind in np.argwhere(share != self._share):
            column, value = int(service) * self._kinds + int(kind), float(share[service, kind])
            self._solver.changeCoeff(int(service), column, value)
            if (value > 0) != (self._share[service, kind] > 0):
                self._solver.changeColBounds(column, 0.0, INFINITY if value > 0 else 0.0)
        self._share = share
        for kind in range(self._kinds):
            self._solver.changeRowBounds(self._services + kind, -INFINITY, float(hosts[kind]))

    def _solve(self) -> None:
        for _ in range(2):
            self._solver.run()
            status = self._solver.getModelStatus()
            if status == highspy.HighsModelStatus.kOptimal:
                return
            self._solver.clearSolver()  # a basis kept from another question can lead astray: once more from nothing
        raise ArithmeticError(f"the placement of demand was not solved: {status}")

    def theta(self, *, rate_tok_s: FloatArray, demand_tok_s: FloatArray, hosts: FloatArray) -> float:
        """Return the share theta of demand that can be served; 0 where a service with demand has no kind at all.

        Parameters
        ----------
        rate_tok_s : float64[M, K]
            Output tokens per second of one host; 0 where the service cannot or may not run there. [tok/s]
        demand_tok_s : float64[M]
            Demand; services without any are left out. [tok/s]
        hosts : float64[K]
            Hosts that may be loaded. [-]

        Returns
        -------
        float
            Share of demand, at most `THETA_MOST`: so much where nothing is demanded. [-]
        """
        wanted = demand_tok_s > 0
        if not wanted.any():
            return THETA_MOST
        alone_tok_s = rate_tok_s @ hosts
        if (alone_tok_s[wanted] <= 0).any():
            return 0.0
        # theta lies between the hardest service's own share / M and that share: measured in it, theta is of order 1
        load = np.divide(demand_tok_s, alone_tok_s, out=np.zeros_like(demand_tok_s), where=wanted)
        scaled = np.where(load > NOTICED_RATIO * load.max(), demand_tok_s / load.max(), 0.0)
        self._set(rate_tok_s, scaled, hosts)
        for service in range(self._services):
            self._solver.changeCoeff(service, self._theta, -1.0 if scaled[service] > 0 else 0.0)
        self._solve()
        return min(THETA_MOST, -float(self._solver.getInfo().objective_function_value) / float(load.max()))

    def given(self) -> FloatArray:
        """Return the hosts of each kind that the last answer gave to each service, float64[M, K]. [-]"""
        values = np.array(self._solver.getSolution().col_value[: self._theta])
        return np.clip(values.reshape(self._services, self._kinds), 0.0, None)
