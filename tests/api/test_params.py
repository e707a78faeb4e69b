"""What a migration takes besides, through the API."""


def test_a_planner_sets_and_reads_them_through_the_api(client):
    body = {
        "name": "half",
        "kind": "migration",
        "starts_on": "2027-01-01",
        "ends_on": "2027-12-01",
        "params": {"floors": [{"ratio": 0.5, "month": "2027-06"}]},
    }
    made = client.post("/api/v1/scenarios/", body, format="json")
    assert made.status_code == 201, made.content
    assert made.json()["params"] == body["params"]
    body["params"] = {"waves_most": "many"}
    refused = client.post("/api/v1/scenarios/", body, format="json")
    assert refused.status_code == 400
    assert "params.waves_most: a finite number is needed" in refused.content.decode()
