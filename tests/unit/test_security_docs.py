"""The documents of the server's access: every test they name exists, every setting is described as it is."""

import re
from pathlib import Path

from server.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SECURITY = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    defined = {
        f"{path.name}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    rows = re.findall(r"^\| (?!threat|---)(.+) \| (.+) \| (.+) \|$", SECURITY, re.M)
    assert len(rows) >= 20
    for threat, _, tests in rows:
        named = re.findall(r"`([\w.]+::\w+)`", tests)
        assert named, threat
        assert set(named) <= defined, (threat, set(named) - defined)


def test_every_setting_is_described_as_it_is() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (?:.*?) \| (.+) \|$", (ROOT / "docs" / "settings.md").read_text(), re.M)
    )
    fields = {name: field for name, field in Settings.model_fields.items() if name != "model"}
    assert rows == {name: field.description for name, field in fields.items()}


def test_the_container_makes_its_first_key() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "STEERZO_HOST=0.0.0.0" in dockerfile
    assert "STEERZO_MAKE_KEY=1" in dockerfile
    assert "STEERZO_MAKE_KEY=1" in SECURITY
