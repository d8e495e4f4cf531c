"""The profiles that ship with the package."""

from typing import Any

from fastapi import APIRouter

from server.routes.replies import ProfilesReply
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
