"""What a migration takes besides, in the form."""

from datetime import date

from dashboard.param_fields import LISTS, param_name
from scenarios.models import Scenario


def test_a_planner_sets_them_in_the_form(pages):
    shown = {"name": "half", "kind": "migration", "starts_on": "2027-01-01", "ends_on": "2027-12-01"}
    shown |= {"reserve_ratio": "0.1", "dual_run_months": "1", "draws": "32", "seed": "1"}
    shown |= {
        param_name("migration", "waves_most"): "2",
        param_name("migration", LISTS): '[[floors]]\nratio = 0.5\nmonth = "2027-06"\n',
    }
    made = pages.post("/scenarios/new/", shown)
    assert made.status_code == 302, made.content.decode()
    saved = Scenario.objects.get()
    assert saved.params == {"waves_most": 2, "floors": [{"ratio": 0.5, "month": "2027-06"}]}
    assert saved.starts_on == date(2027, 1, 1)
    refused = pages.post("/scenarios/new/", {**shown, param_name("migration", "ramp_ratio"): "7"})
    assert refused.status_code == 400
    assert "params.ramp_ratio: 7 is above 1" in refused.content.decode()
