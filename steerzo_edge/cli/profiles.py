"""`steerzo profiles`: lists the profiles that ship with the package, and shows one with all its settings."""

import json
from typing import Annotated

import typer

from steerzo_edge.cli.output import AsJson, plain_errors

profiles_app = typer.Typer(help="The profiles (settings of runs) that ship with the package.", no_args_is_help=True)

Set = Annotated[list[str] | None, typer.Option("--set", help="Change a setting, e.g. --set method.pool=4.")]


@profiles_app.command("list")
def list_profiles(as_json: AsJson = False) -> None:
    """List the profiles with their descriptions."""
    from steerzo_edge.settings.profile import load_profile, profile_names

    with plain_errors():
        for name in profile_names():
            profile = load_profile(name)
            if as_json:
                typer.echo(json.dumps({"name": name, "description": profile.description}))
            else:
                typer.echo(f"{name:18} {profile.description}")


@profiles_app.command("show")
def show_profile(name: str, set_: Set = None, as_json: AsJson = False) -> None:
    """Print every setting of a profile, with defaults."""
    import yaml

    from steerzo_edge.cli.options import parsed_settings
    from steerzo_edge.settings.profile import load_profile

    with plain_errors():
        settings = load_profile(name, parsed_settings(set_ or [])).model_dump(mode="json")
        typer.echo(json.dumps(settings) if as_json else yaml.safe_dump(settings, sort_keys=False).rstrip())
