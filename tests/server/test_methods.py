"""GET /methods describes each method as its config class does, so that the page needs to know none of them."""

from typing import Any, get_args

import pytest
from pydantic import create_model

from server.routes.profiles import described
from steerzo_edge.settings.methods import MethodConfig
from tests.server.access import app_in, client_of

CONFIGS = get_args(get_args(MethodConfig)[0])


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    answer = client_of(app_in(tmp_path_factory.mktemp("methods"))).get("/methods")
    assert answer.status_code == 200
    return {method["kind"]: method for method in answer.json()["methods"]}


def test_every_method_of_a_profile_is_listed(methods: dict[str, dict[str, Any]]) -> None:
    assert list(methods) == [config.model_fields["kind"].default for config in CONFIGS]
    for method in methods.values():
        assert method["name"]
        assert method["about"].endswith(".")


@pytest.mark.parametrize("config", CONFIGS)
def test_the_cost_is_right_for_every_pool(config: Any, methods: dict[str, dict[str, Any]]) -> None:
    method = methods[config.model_fields["kind"].default]
    assert config.model_validate(method["settings"]).cost == method["forwards"]
    if "pool" not in config.model_fields:
        assert method["forwards_per_candidate"] == 0
        return
    for pool in (2, 3, 7, 64, 256):
        more = pool - method["settings"]["pool"]
        cost = method["forwards"] + more * method["forwards_per_candidate"]
        assert config.model_validate({"pool": pool}).cost == cost


def test_a_new_method_is_described_by_its_class_alone() -> None:
    spiral = create_model(
        "Spiral",
        __base__=CONFIGS[0],
        __doc__="Spiral (made up): walks in circles.\n\nThis is not shown.",
        kind=(str, "spiral"),
        turns=(int, 3),
    )
    found = described(spiral)
    assert (found["kind"], found["name"], found["about"]) == ("spiral", "Spiral (made up)", "walks in circles.")
    assert found["settings"]["turns"] == 3
