"""The settings that ship with the package, and the methods that a profile can name."""

from typing import Any, get_args

from fastapi import APIRouter

from server.routes.replies import MethodsReply, ProfilesReply
from steerzo_edge.settings.methods import MethodConfig
from steerzo_edge.settings.profile import load_profile, profile_names

router = APIRouter(tags=["profiles"])


@router.get("/profiles", responses={200: {"model": ProfilesReply}})
def list_profiles() -> dict[str, Any]:
    """Every profile, with defaults filled in."""
    return {"profiles": [load_profile(name).model_dump(mode="json") for name in profile_names()]}


@router.get("/profiles/{name}")
def show_profile(name: str) -> dict[str, Any]:
    """One profile, with defaults filled in."""
    return load_profile(name).model_dump(mode="json")


@router.get("/methods", responses={200: {"model": MethodsReply}})
def list_methods() -> dict[str, Any]:
    """Every method that a profile can name: what it does, its default settings, and what a step costs."""
    return {"methods": [described(config) for config in get_args(get_args(MethodConfig)[0])]}


def described(config: type[Any]) -> dict[str, Any]:
    """A method as the API gives it.

    Args:
        config: Its section of a profile. The first line of its docstring is "NAME: WHAT A STEP DOES."
    """
    defaults = config()
    kind = config.model_fields["kind"].default
    line = (config.__doc__ or kind).strip().splitlines()[0]
    name, colon, about = line.partition(": ")
    return {
        "kind": kind,
        "name": name if colon else kind,
        "about": about if colon else line,
        "automatic_rate": config.automatic_rate,
        "settings": defaults.model_dump(mode="json", exclude={"kind"}),
        "forwards": defaults.cost,
        "forwards_per_candidate": _cost_of_a_candidate(config),
    }


def _cost_of_a_candidate(config: type[Any]) -> int:
    if "pool" not in config.model_fields:
        return 0
    few, one_more = (config.model_validate({"pool": pool}).cost for pool in (2, 3))
    return int(one_more - few)
