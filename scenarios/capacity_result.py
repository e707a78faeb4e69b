"""A capacity plan as the result that pages, tables and the API show: until when, what binds, what to order by when.

Values in, values out. Rows say months, days and names; figures are not rounded, sentences are.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from fleet.snapshot import FleetSnapshot
from scenarios.capacity_words import bind_sentence, count_text, tokens_text
from scenarios.planning.capacity_answer import (
    AfterLossRow,
    BandValues,
    CapacityAnswer,
    HomelessRow,
    RunOutRow,
    SiteRow,
    TierRow,
)
from scenarios.planning.headroom import ALL, SERVED, SHARE_MOST
from scenarios.planning.problem import PlanProblem
from scenarios.plans import NO_HOST
from scenarios.run_outs import run_out_sentence

Row = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a result says beside the plan.

    `ratings` are rows of the result's ratings: service, kind, binds.
    """

    problem: PlanProblem
    months: tuple[date, ...]
    snapshot: FleetSnapshot
    ratings: Sequence[Mapping[str, Any]]


def capacity_result(answer: CapacityAnswer, told: Told) -> Row:
    """Return what a result says of a capacity plan."""
    rows = _Rows(answer, told)
    regions = [rows.region(slug) for slug in rows.regions]
    return {
        "currency": told.problem.currency,
        "target_ratio": answer.target_ratio,
        "fleet": rows.fleet(),
        "regions": regions,
        "sites": [rows.site(site.slug) for site in told.problem.sites],
        "add": rows.add(),
        "missed": [
            {"month": rows.months[row.period], "region": row.region, "headroom_ratio": row.headroom_ratio}
            for row in answer.missed
        ],
    }


class _Rows:
    """An answer by region, site and tier."""

    def __init__(self, answer: CapacityAnswer, told: Told) -> None:
        self._answer, self._told, self._problem = answer, told, told.problem
        self.months = told.problem.periods
        asked = {service.region for service in told.problem.services}
        self._names = {region.slug: region.name for region in told.snapshot.regions}
        self._sites = {site.slug: site.name for site in told.snapshot.sites}
        self._region_of = {site.slug: site.region for site in told.problem.sites}
        self.regions = [slug for slug in self._names if slug in asked]
        self._tiers: dict[tuple[str, str], dict[int, TierRow]] = defaultdict(dict)
        for row in answer.rows:
            self._tiers[row.region, row.tier][row.period] = row
        self._run_outs = {(row.region, row.tier): row for row in answer.run_out}
        self._binding = {(row.site, row.period): row for row in answer.binding}
        self._hosts: dict[tuple[str, int], list[SiteRow]] = defaultdict(list)
        for stands in answer.hosts:
            self._hosts[stands.site, stands.period].append(stands)
        self._homeless: dict[str, list[HomelessRow]] = defaultdict(list)
        for missing in answer.homeless:
            self._homeless[missing.region].append(missing)
        self._limits_w = _limits_w(told)

    # --- the fleet and its regions ------------------------------------------------------------------------------------
    def fleet(self) -> Row:
        """Return when the fleet runs out, which is when its first region does."""
        row = self._run_outs["", ALL]
        sentence = run_out_sentence("The fleet", row.run_out_on, self.months[-1])
        if len(self.regions) > 1 and row.run_out_on.p10 is not None:
            sentence += self._first_text()
        tiers = [tier for region, tier in self._run_outs if not region and tier != ALL]
        return {
            **self._when(row),
            "sentence": sentence,
            "notes": [note for note in (self._unserved_text(row), self._add_sentence()) if note],
            "tiers": [{"tier": tier, **self._when(self._run_outs["", tier])} for tier in tiers],
        }

    def region(self, slug: str) -> Row:
        """Return a region month by month, its tiers, when it runs out, and what is left after a loss."""
        row, name = self._run_outs[slug, ALL], self._names[slug]
        losses = [one for one in self._answer.after_loss if one.region == slug]
        tiers = [tier for region, tier in self._run_outs if region == slug and tier != ALL]
        sentence = run_out_sentence(name, row.run_out_on, self.months[-1])
        notes = (
            self._order_text(row),
            self._unserved_text(row),
            self._tiers_text(slug, tiers),
            self._loss_text(slug, losses),
        )
        return {
            "slug": slug,
            "name": name,
            **self._when(row),
            "order_kind": row.kind,
            "lead_months": row.lead_months,
            "lead_is_offered": row.is_offered,
            "order_by_on": asdict(row.order_by_on),
            "sentence": sentence + self._expected_text(row) + self._homeless_text(slug),
            "notes": [note for note in notes if note],
            "periods": [self._region_period(slug, period) for period in range(len(self.months))],
            "tiers": [
                {
                    "tier": tier,
                    **self._when(self._run_outs[slug, tier]),
                    "order_by_on": asdict(self._run_outs[slug, tier].order_by_on),
                    "periods": [self._served(slug, tier, period) for period in range(len(self.months))],
                }
                for tier in tiers
            ],
            "after_loss": [
                {"month": self.months[one.period], **{n: getattr(one, n) for n in LOSS_FIELDS}} for one in losses
            ],
            "rates_bound": self._rates_bound(slug),
        }

    def _when(self, row: RunOutRow) -> Row:
        return {
            "run_out": asdict(row.run_out_on),
            "run_out_expected_on": row.run_out_expected_on,
            "run_out_probability_ratio": row.probability_ratio,
            "unserved_mtok": asdict(row.unserved),
            "unserved_expected_mtok": row.unserved_mtok,
        }

    def _region_period(self, slug: str, period: int) -> Row:
        sites = [site for site, region in self._region_of.items() if region == slug]
        hosts: Counter[str] = Counter()
        for site in sites:
            hosts.update(self._by_kind(site, period, "hosts"))
        return {
            **self._served(slug, ALL, period),
            "hosts": dict(sorted(hosts.items())),
            "binding": self._region_binding(slug, sites, period),
        }

    def _region_binding(self, slug: str, sites: Sequence[str], period: int) -> str:
        """Return what stops the next host at most sites of a region; `no_host` where a service has none."""
        if any(row.period == period for row in self._homeless[slug]) or not sites:
            return NO_HOST
        found = [self._binding[site, period].constraint for site in sites]
        return max(sorted(set(found)), key=found.count)

    def _served(self, slug: str, tier: str, period: int) -> Row:
        """Return supply and demand of a tier in a month; where nothing is demanded all of it can be served."""
        row = self._tiers[slug, tier].get(period)
        if row is None:
            nothing, plenty = asdict(BandValues(0.0, 0.0, 0.0)), asdict(BandValues(*[SHARE_MOST - 1] * 3))
            bands = {"available_tok_s": nothing, "demanded_tok_s": nothing, "headroom_ratio": plenty}
            expected = {"available_tok_s": 0.0, "demanded_tok_s": 0.0, "headroom_ratio": SHARE_MOST - 1}
            return {"month": self.months[period], **bands, "expected": expected, "unserved_tok_s": 0.0}
        return {
            "month": self.months[period],
            "available_tok_s": asdict(row.supply),
            "demanded_tok_s": asdict(row.demand),
            "headroom_ratio": asdict(row.headroom),
            "expected": {
                "available_tok_s": row.supply_tok_s,
                "demanded_tok_s": row.demand_tok_s,
                "headroom_ratio": row.headroom_ratio,
            },
            "unserved_tok_s": row.unserved_tok_s,
        }

    def _rates_bound(self, slug: str) -> list[Row]:
        """Return what limits the rate of the hosts that stand in a region in the first month, with the services."""
        kinds = {row.kind for site, region in self._region_of.items() if region == slug for row in self._hosts[site, 0]}
        services = {service.slug for service in self._problem.services if service.region == slug}
        found: dict[str, set[str]] = defaultdict(set)
        for row in self._told.ratings:
            if row["service"] in services and row["kind"] in kinds and row["binds"]:
                found[row["binds"]].add(row["service"])
        return [{"binds": binds, "services": sorted(named)} for binds, named in sorted(found.items())]

    # --- sites --------------------------------------------------------------------------------------------------------
    def site(self, slug: str) -> Row:
        """Return a site month by month: hosts, power, and what stops the next host."""
        return {
            "slug": slug,
            "name": self._sites[slug],
            "region": self._region_of[slug],
            "periods": [self._site_period(slug, period) for period in range(len(self.months))],
        }

    def _site_period(self, slug: str, period: int) -> Row:
        bind, hosts = self._binding[slug, period], self._by_kind(slug, period, "hosts")
        power_w = {kind.slug: kind.power_w for kind in self._problem.kinds}
        waiting = self._by_kind(slug, period, "waiting")
        return {
            "month": self.months[period],
            "hosts": hosts,
            "waiting": waiting,
            "power_w": sum(count * power_w[kind] for kind, count in hosts.items()),
            "power_limit_w": self._limits_w[slug][period],
            "kind": bind.kind,
            "binding": bind.constraint,
            "binding_object": bind.object,
            "binding_failure": bind.failure,
            "free": bind.free,
            "needed": bind.needed,
            "unit": bind.unit,
            "sentence": bind_sentence(self._sites[slug], bind, waiting=waiting.get(bind.kind, 0)),
        }

    def _by_kind(self, site: str, period: int, what: str) -> dict[str, int]:
        return {row.kind: getattr(row, what) for row in self._hosts[site, period] if getattr(row, what)}

    # --- what to add --------------------------------------------------------------------------------------------------
    def add(self) -> list[Row]:
        """Return what to add where, by month."""
        return [
            {
                "month": self.months[row.period],
                "region": self._region_of[row.site],
                **{name: getattr(row, name) for name in ("site", "kind", "hosts", "beyond_hosts", "cost")},
                "order_by_on": row.order_by_on,
            }
            for row in self._answer.add
        ]

    def _add_sentence(self) -> str:
        answer, last = self._answer, self.months[-1]
        target = f"keep {answer.target_ratio:.0%} of headroom" if answer.target_ratio else "serve all demand"
        missed = ""
        if answer.missed:
            where = ", ".join(
                self._names[slug] for slug in self.regions if any(m.region == slug for m in answer.missed)
            )
            months = count_text(len({m.period for m in answer.missed}), "month")
            missed = f" In {months} not enough hosts can be added in {where}."
        if not answer.add:
            none = f"Nothing can be added to {target}." if missed else "Nothing has to be added"
            return none + (missed or f" to {target} to {last} in the expected future.")
        kinds: Counter[str] = Counter()
        for row in answer.add:
            kinds[row.kind] += row.hosts
        total, beyond = sum(kinds.values()), sum(row.beyond_hosts for row in answer.add)
        named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        offered = f"{beyond:,} of them beyond all offers" if beyond else "all of them offered"
        if beyond == total:
            offered = "none of which is offered"
        money = f"{sum(row.cost for row in answer.add) / 1e6:,.1f} M {self._problem.currency}"
        return (
            f"To {target} to {last} in the expected future {count_text(total, 'host')} "
            f"{'has' if total == 1 else 'have'} to be added ({named}), {offered}: {money} for hosts, energy and "
            f"upkeep.{missed}"
        )

    # --- sentences ----------------------------------------------------------------------------------------------------
    def _first_text(self) -> str:
        """Return which region is the first to run out in most futures; where several are, all of them."""
        firsts = {slug: self._run_outs[slug, ALL].first_ratio for slug in self.regions}
        most = max(firsts.values())
        names = ", ".join(self._names[slug] for slug, ratio in firsts.items() if ratio == most)
        if most == 1:
            return f" First to run out: {names}."
        return f" First to run out most often: {names}, in {most:.0%} of futures."

    def _expected_text(self, row: RunOutRow) -> str:
        if row.run_out_on.p10 is None:
            return ""
        day = row.run_out_expected_on
        return f" In the expected future it {f'does on {day}' if day else f'lasts beyond {self.months[-1]}'}."

    def _order_text(self, row: RunOutRow) -> str:
        """Return by when to order so that half of the futures last, and nine in ten of them."""
        by, first = row.order_by_on, f"{self.months[0]}-01"
        if by.p10 is None:
            return ""
        lead = f"{row.lead_months:g} months before, {'by its first offer' if row.is_offered else 'assumed'}"
        sure, half = (f"by {day}{', which has passed' if day and day < first else ''}" for day in (by.p10, by.p50))
        text = f"To last in nine futures of ten {row.kind} must be ordered {sure}"
        return text + ("" if by.p50 in {None, by.p10} else f"; in half of them {half}") + f" ({lead})."

    def _unserved_text(self, row: RunOutRow) -> str:
        if not row.unserved.p90:
            return ""
        low, middle, high = (tokens_text(one) for one in (row.unserved.p10, row.unserved.p50, row.unserved.p90))
        what = f"{middle} ({low} to {high}) go unserved by {self.months[-1]}"
        return f"If nothing is done, services of a tier cut alike, {what}."

    def _tiers_text(self, slug: str, tiers: Sequence[str]) -> str:
        if len(tiers) < 2:
            return ""
        ends = [(tier, self._run_outs[slug, tier].run_out_on.p50) for tier in tiers]
        told = [f"{tier} {f'until {day}' if day else f'beyond {self.months[-1]}'}" for tier, day in ends]
        return f"Half of the futures serve {', '.join(told[:-1])} and {told[-1]}."

    def _loss_text(self, slug: str, losses: Sequence[AfterLossRow]) -> str:
        """Return what the loss of the place that hurts most leaves of the protected tier."""
        tier = self._problem.rules.failover_tier
        rows = [row for row in losses if row.tier == tier]
        if not rows:
            return self._alone_text(slug)
        worst = min(rows, key=lambda row: row.headroom_ratio)
        is_served = worst.headroom_ratio >= -SERVED
        left = max(worst.headroom_ratio, 0.0) if is_served else worst.headroom_ratio
        after = f"{left:.0%} without {worst.domain} in {self.months[worst.period]}"
        if is_served:
            return f"The loss of any one hall leaves {tier} served; its least headroom is {after}."
        short = sum(row.headroom_ratio < -SERVED for row in rows)
        return (
            f"In {short} of {len(self.months)} months {tier} is not served in full after the loss of a hall; its "
            f"least headroom is {after}."
        )

    def _alone_text(self, slug: str) -> str:
        places = {p.slug for p in self._problem.located if self._region_of[p.site] == slug}
        standing = sorted({row.place for row in self._problem.standing} & places)
        if len(standing) != 1:
            return ""
        return f"All its hosts stand in {standing[0]}: nothing is left after its loss."

    def _homeless_text(self, slug: str) -> str:
        found: dict[str, list[int]] = defaultdict(list)
        for row in self._homeless[slug]:
            found[row.service].append(row.period)
        return "".join(
            f" No host of the region can serve {service} in {count_text(len(periods), 'month')} from "
            f"{self.months[min(periods)]} to {self.months[max(periods)]}."
            for service, periods in found.items()
        )


LOSS_FIELDS = ("tier", "domain", "headroom_ratio", "unserved_tok_s")


def _limits_w(told: Told) -> dict[str, list[float]]:
    """Return by site and month what its open racks may draw for hours with one feed lost. [W]"""
    snapshot, found = told.snapshot, {}
    open_w = [snapshot.rack_power_limit_w * snapshot.rack_open(day) for day in told.months]
    for at, site in enumerate(snapshot.sites):
        ours = snapshot.rack_site == at
        found[site.slug] = [float(of_month[ours].sum()) for of_month in open_w]
    return found
