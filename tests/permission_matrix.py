"""Who may do what: one table of every route and method, for the API and for pages. A route that is missing fails.

A row says who may do it. What it means to be refused follows from the door: the API answers 401 to nobody in
particular and 403 to who may not, a page sends to the sign-in or answers 403. A method that is not in the table of its
route is 405. An object in a region that an account does not see is 404, whatever it may do elsewhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.regex_helper import normalize

from fleet.inventory import INVENTORY

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ACCOUNTS = ("anonymous", "no role", "viewer", "planner", "operator", "admin", "limited viewer", "limited operator")
"""The limited ones see one region of two; the objects of the other one are foreign to them."""

EVERYBODY = ACCOUNTS
SIGNED_IN = ACCOUNTS[1:]
ROLES = {"planner", "operator", "admin"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a method of a route.

    `object` says where the object is named that may be foreign: in the `address` (404 then), in the `body` (400 then,
    as if it were missing) or nowhere (empty). `limited` is whether an account that is limited to regions may do it.
    """

    who: tuple[str, ...] = SIGNED_IN
    object: str = ""
    limited: bool = True


def rules_of(*roles: str) -> tuple[str, ...]:
    """Return the accounts of some roles, limited ones among them; an admin may do everything."""
    allowed = {*roles, "admin"}
    return tuple(account for account in ACCOUNTS if account.removeprefix("limited ") in allowed)


READ = Rule()
READ_ONE = Rule(object="address")
PLAN = Rule(rules_of("planner"))
PLAN_ONE = Rule(rules_of("planner"), object="address")
GLOBAL = ("host-types", "firmware-sets", "lots", "gates", "orders")
"""What lies in no region: everybody sees it, and who is limited to regions does not write it."""


def _entries() -> Iterable[tuple[tuple[str, str], Rule]]:
    for entry in INVENTORY.values():
        list_, one = f"api:{entry.kind}-list", f"api:{entry.kind}-detail"
        who, is_local = rules_of(*entry.editors), entry.name not in GLOBAL
        place = ("address", "body") if is_local else ("", "")
        yield (list_, "GET"), READ
        yield (list_, "POST"), Rule(who, limited=is_local and entry.name != "regions")
        yield (list_, "PATCH"), Rule(who, object=place[1], limited=is_local)
        yield (list_, "DELETE"), Rule(who, object=place[1], limited=is_local)
        yield (one, "GET"), Rule(object=place[0])
        yield (one, "PATCH"), Rule(who, object=place[0], limited=is_local)
        yield (one, "DELETE"), Rule(who, object=place[0], limited=is_local)
        yield (f"api:{entry.kind}-changes", "GET"), Rule(object=place[0])


API: Mapping[tuple[str, str], Rule] = {
    **dict(_entries()),
    ("api:root", "GET"): READ,
    ("api:schema", "GET"): Rule(EVERYBODY),
    ("api:capacity-query", "POST"): READ,
    ("api:accuracy", "GET"): READ,
    ("api:exchange-ratios", "GET"): READ,
    ("api:rating-catalog", "GET"): READ,
    # whose site, node or rack they are about is a parameter: what is foreign is 400 there, as tests of each say
    **{(f"api:{name}", "GET"): READ for name in ("fits", "power-loads", "cooling-loads", "rack-loads", "timeline")},
    ("api:blast-radius", "GET"): READ,
    ("api:chip-list", "GET"): READ,
    ("api:chip-detail", "GET"): READ,
    ("api:llm-model-list", "GET"): READ,
    ("api:llm-model-detail", "GET"): READ,
    ("api:changeset-list", "GET"): READ,
    ("api:changeset-detail", "GET"): READ_ONE,
    ("api:changeset-rows", "GET"): READ_ONE,
    ("api:changeset-undo", "POST"): Rule(rules_of("operator"), object="address"),  # of racks, that is
    ("api:importjob-list", "GET"): READ,
    ("api:importjob-list", "POST"): Rule(rules_of("planner", "operator")),
    ("api:importjob-detail", "GET"): READ,  # one's own; those of others are 404, but for an admin
    ("api:importjob-errors-csv", "GET"): READ,
    ("api:importjob-cancel", "POST"): Rule(rules_of("planner", "operator")),
    ("api:importjob-apply", "POST"): Rule(rules_of("planner", "operator")),
    ("api:scenario-list", "GET"): READ,
    ("api:scenario-list", "POST"): PLAN,
    ("api:scenario-detail", "GET"): READ_ONE,
    ("api:scenario-detail", "PATCH"): PLAN_ONE,
    ("api:scenario-detail", "DELETE"): PLAN_ONE,
    ("api:scenario-runs", "POST"): PLAN_ONE,
    ("api:schedule-list", "GET"): READ,
    ("api:schedule-list", "POST"): PLAN,
    ("api:schedule-detail", "GET"): READ_ONE,
    ("api:schedule-detail", "PATCH"): PLAN_ONE,
    ("api:schedule-detail", "DELETE"): PLAN_ONE,
    ("api:run-list", "GET"): READ,
    ("api:run-detail", "GET"): READ_ONE,
    ("api:run-result", "GET"): READ_ONE,
    ("api:run-cancel", "POST"): PLAN_ONE,
    ("api:run-table-csv", "GET"): READ_ONE,
    ("api:run-table-json", "GET"): READ_ONE,
    ("api:report-list", "GET"): READ,
    ("api:report-detail", "GET"): READ_ONE,
    ("api:report-html", "GET"): READ_ONE,
    ("api:report-csv", "GET"): READ_ONE,
    ("api:demand-list", "GET"): READ,
    ("api:demand-detail", "GET"): READ_ONE,
    ("api:demandhistory-list", "GET"): READ,
    ("api:demandhistory-list", "POST"): PLAN,
    ("api:demandhistory-upload", "POST"): PLAN,
    ("api:demandhistory-detail", "GET"): READ_ONE,
    ("api:demandhistory-detail", "DELETE"): PLAN_ONE,
    ("api:demandhistory-windows-csv", "GET"): READ_ONE,
    ("api:trace-list", "GET"): READ,
    ("api:trace-list", "POST"): PLAN,
    ("api:trace-detail", "GET"): READ_ONE,
    ("api:trace-detail", "DELETE"): PLAN_ONE,
    ("api:storedrating-list", "GET"): READ,
    ("api:storedrating-detail", "GET"): READ,
    ("api:storedrating-query", "POST"): READ,
    ("api:calibrationversion-list", "GET"): READ,
    ("api:calibrationversion-list", "POST"): PLAN,
    ("api:calibrationversion-detail", "GET"): READ,
    ("api:calibrationversion-activate", "POST"): PLAN,
    ("api:calibrationversion-published", "POST"): PLAN,
    ("api:calibrationversion-points-csv", "GET"): READ,
    ("api:token-list", "GET"): READ,
    ("api:token-list", "POST"): Rule(),
    ("api:token-detail", "GET"): Rule(),  # one's own; those of others are 404 for everybody
    ("api:token-detail", "DELETE"): Rule(),
}

OPERATE, OPERATE_ONE = Rule(rules_of("operator")), Rule(rules_of("operator"), object="address")
PAGES: Mapping[tuple[str, str], Rule] = {
    # whose row a list, a form or an undo is about: a rack's, in the addresses that the test tries
    **{
        (f"dashboard:{name}", "GET"): READ
        for name in (
            *("overview", "runs_active", "fleet", "timeline", "failure", "lists", "entry_list", "entry_csv", "changes"),
            *("chips", "readiness", "readiness_csv", "ratings", "ratings_csv", "ratings_json"),
            *("accuracy", "accuracy_csv", "accuracy_json"),
            *("demand", "demand_csv", "demand_json"),
            *("scenarios", "reports", "schedules", "imports", "import_job", "import_progress", "import_errors"),
        )
    },
    **{
        (f"dashboard:{name}", "GET"): READ_ONE
        for name in (
            *(
                "site",
                "power",
                "cooling",
                "network",
                "tree_csv",
                "hall",
                "row",
                "rack",
                "host",
                "card",
                "entry_row",
                "change_set",
                "scenario",
                "run",
            ),
            *("demand_service", "demand_service_csv", "demand_service_json"),
            *("run_progress", "run_table_csv", "run_chart_json", "report", "report_html", "report_csv"),
        )
    },
    **{("dashboard:entry_new", method): OPERATE for method in ("GET", "POST")},
    **{(f"dashboard:{name}", m): OPERATE_ONE for name in ("entry_edit", "entry_delete") for m in ("GET", "POST")},
    ("dashboard:demand_upload", "POST"): PLAN_ONE,
    ("dashboard:change_undo", "POST"): OPERATE_ONE,
    **{(f"dashboard:{name}", m): PLAN for name in ("scenario_new", "schedule_new") for m in ("GET", "POST")},
    **{("dashboard:scenario_edit", method): PLAN_ONE for method in ("GET", "POST")},
    **{(f"dashboard:{name}", "POST"): PLAN_ONE for name in ("scenario_run", "run_cancel", "schedule_switch")},
    **{
        (f"dashboard:{name}", "POST"): Rule(rules_of("planner", "operator"))
        for name in ("imports", "import_apply", "import_cancel")
    },
    ("dashboard:calibration_use", "POST"): PLAN,
    **{("dashboard:login", method): Rule(EVERYBODY) for method in ("GET", "POST")},
    ("dashboard:logout", "POST"): Rule(EVERYBODY),
}

MATRIX: Mapping[tuple[str, str], Rule] = {**API, **PAGES}
"""The one table. The administration asks for staff, and is tested by its own."""

NOWHERE = ("api:unknown",)
"""What stands for every other address: 404, whoever asks."""


# --- routes -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Route:
    """One address of the product: its full name, and a template with its variables, as /runs/%(pk)s/."""

    name: str
    template: str
    variables: tuple[str, ...]


def routes_of(namespace: str) -> list[Route]:
    """Return every named route of a namespace, once."""
    found: dict[str, Route] = {}
    for route in _walk(get_resolver().url_patterns, "/", ()):
        if route.name.startswith(f"{namespace}:"):
            found.setdefault(route.name, route)
    return list(found.values())


def _walk(patterns: Iterable[URLPattern | URLResolver], prefix: str, names: tuple[str, ...]) -> Iterable[Route]:
    for pattern in patterns:
        for template, variables in normalize(pattern.pattern.regex.pattern.removesuffix(r"\Z")):
            path = prefix + template
            if isinstance(pattern, URLResolver):
                inner = (*names, pattern.namespace) if pattern.namespace else names
                yield from _walk(pattern.url_patterns, path, inner)
            elif pattern.name:
                yield Route(":".join((*names, pattern.name)), path, tuple(variables))


def is_allowed(rule: Rule, account: str) -> bool:
    """Return whether an account may use a method, as far as its role and its limit are concerned."""
    return account in rule.who and (rule.limited or not account.startswith("limited"))
