from accelerator import chip_get, chips_load, models_load
from tests.api.conftest import assert_problem


def test_every_chip_shows_its_figures_with_unit_range_and_source(client):
    page = client.get("/api/v1/chips/?limit=1000").json()
    assert page["count"] == len(chips_load())
    for chip in page["results"]:
        for figure in chip["figures"]:
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["unit"]
            assert figure["source"]


def test_a_chip_shows_what_the_catalog_says(client):
    shown = client.get("/api/v1/chips/h20-96/").json()
    memory = next(figure for figure in shown["figures"] if figure["quantity"] == "memory_byte")
    assert memory["value"] == chip_get("h20-96").memory_byte.value
    assert_problem(client.get("/api/v1/chips/h21/"), 404)


def test_models_show_their_parameters_and_where_they_were_read(client):
    page = client.get("/api/v1/models/?limit=1000").json()
    assert page["count"] == len(models_load())
    assert all(fact["source"] for model in page["results"] for fact in model["facts"])
    one = client.get("/api/v1/models/qwen3-32b/").json()
    assert one["params_total"] == models_load()["qwen3-32b"].params_total


def test_the_catalog_is_filtered_searched_and_paged(client):
    homegrown = client.get("/api/v1/chips/?homegrown=true&limit=1000").json()
    assert {chip["slug"] for chip in homegrown["results"]} == {s for s, c in chips_load().items() if c.homegrown}
    assert client.get("/api/v1/chips/?slug=h20-96&slug=a100-80").json()["count"] >= 1
    assert all("h20" in chip["slug"] for chip in client.get("/api/v1/chips/?q=h20").json()["results"])
    first = client.get("/api/v1/models/?limit=1&brief=1").json()
    assert set(first["results"][0]) == {"id", "url", "display", "slug"}
    assert client.get(first["next"]).json()["results"] != first["results"]
    assert_problem(client.get("/api/v1/chips/?homegrown=maybe"), 400)
    assert_problem(client.get("/api/v1/models/?homegrown=true"), 400)
