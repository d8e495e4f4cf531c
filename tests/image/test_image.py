"""What a stranger gets: the main job in a container, with a restart in the middle, and what the image is made of.

Skipped where STEERZO_IMAGE names no image. `make image-test` builds one and runs these.
"""

import json
import os
import re
import uuid
from collections.abc import Iterator
from itertools import islice

import pytest

from server.commands.client import Client
from server.commands.demo import INTENTS
from server.store.keys import PREFIX
from tests.image.containers import STOP_S, Container, docker, ran, serving
from tests.server.process import finished

IMAGE = os.environ.get("STEERZO_IMAGE", "")
pytestmark = pytest.mark.skipif(not IMAGE, reason="STEERZO_IMAGE names no image; make image-test does")
# As strict as compose.yaml: nothing of the image can be written, and no capability is left.
STEPS = 40
STRICT = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
# Threads that wait must not spin: tests share the machine.
QUIET = ("-e", "OMP_WAIT_POLICY=passive")
KEY = re.compile(rf"{PREFIX}[\w-]{{20,}}")


@pytest.fixture
def volume() -> Iterator[str]:
    """A named volume for /data."""
    name = f"steerzo-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


@pytest.fixture
def container(volume: str) -> Iterator[Container]:
    with serving(IMAGE, volume, *STRICT, *QUIET, "-v", f"{volume}:/data") as found:
        found.wait_until_healthy()
        yield found


def key_of(log: str) -> str:
    found = set(KEY.findall(log))
    assert len(found) == 1, log
    assert log.count(next(iter(found))) == 1
    return str(found.pop())


def test_the_main_job_survives_a_restart_of_the_container(container: Container) -> None:
    url = f"http://127.0.0.1:{container.port}"
    with Client(url) as stranger:
        assert stranger.http.get("/jobs").status_code == 401
        assert stranger.http.get("/readyz").status_code == 200
        assert "<title>" in stranger.http.get("/").text
    key = key_of(container.log)
    with Client(url, key) as client:
        train, test = (client.upload(INTENTS / f"{part}.jsonl") for part in ("train", "test"))
        task = json.loads((INTENTS / "task.json").read_text())
        overrides: dict[str, float] = {"steps": STEPS, "evaluate.every": STEPS, "evaluate.examples": 100}
        overrides |= {"method.epsilon": 0.03, "rule.learning_rate": 0.01}
        job = client.post(
            "/jobs",
            {
                "dataset": train["id"],
                "validation": test["id"],
                "task": task,
                "profile": "cpu-demo",
                "overrides": overrides,
            },
        )
        steps = (data["step"] for kind, data in client.events(job["id"]) if kind == "step")
        assert list(islice(steps, 10)) == list(range(10))
        docker("restart", "--time", str(STOP_S), container.name)
        container.wait_until_ready(client)
        found = finished(client, job["id"], timeout_s=300)
        assert found["state"] == "succeeded", found
        assert found["step"] == STEPS
        numbers = [event["step"] for kind, event in client.events(job["id"]) if kind == "step"]
        assert numbers == list(range(STEPS))
        prompt = task["template"].replace("{text}", "will it rain in oslo tomorrow")
        body = {"prompt": prompt, "adapter": job["id"], "max_new_tokens": 4}
        assert client.post("/generate", body)["adapter"] == job["id"]
        gguf = client.http.get(f"/jobs/{job['id']}/adapter", params={"format": "gguf-lora"})
        assert gguf.status_code == 200, gguf.text
        pieces = list(client.answer(body))
        assert pieces[-1][0] == "done"
    assert key_of(container.log) == key
    assert container.within("id", "-u").strip() == "1000"
    owners = container.within("find", "/data", "-not", "-uid", "1000")
    assert not owners.strip()
    docker("stop", "--time", str(STOP_S), container.name)
    assert container.state["ExitCode"] == 0, container.log


def test_the_labels_of_the_image() -> None:
    config = json.loads(docker("inspect", IMAGE))[0]["Config"]
    assert config["User"] == "1000:1000"
    assert config["Volumes"].keys() == {"/data", "/models"}
    assert config["ExposedPorts"].keys() == {"8000/tcp"}
    assert "/readyz" in " ".join(config["Healthcheck"]["Test"])
    assert config["Entrypoint"] == ["steerzo"]
    assert not [line for line in config["Env"] if "KEY=" in line and not line.endswith("=1")]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_no_build_files_are_in_the_image() -> None:
    """No compilers, no pip, no package lists, no library of bitsandbytes that this torch cannot load."""
    look = (
        "command -v gcc cc g++ make pip pip3 git curl; ls /var/lib/apt/lists /var/cache/apt | grep -v ':$';"
        "ls /opt/steerzo/lib/python3*/site-packages/bitsandbytes/*.so;"
        "ls -d /opt/steerzo/lib/python3*/site-packages/torch/include /build /project; true"
    )
    code, said = ran(IMAGE, "-c", look, options=("--entrypoint", "sh"))
    assert code == 0
    found = [line for line in said.splitlines() if line and "No such file" not in line]
    libraries = [line.rsplit("/", 1)[-1] for line in found]
    assert "libbitsandbytes_cpu.so" in libraries
    assert len(libraries) <= 2, said
    assert all(name.startswith("libbitsandbytes_") for name in libraries), said


def test_the_image_has_a_bounded_size(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(docker("inspect", IMAGE))[0]
    code, torch = ran(IMAGE, "-Ic", "import torch; print(torch.version.cuda)", options=("--entrypoint", "python3"))
    assert code == 0
    layers = [line.split() for line in docker("history", "--format", "{{.Size}}", IMAGE).splitlines()]
    with capsys.disabled():
        size = found["Size"] / 1e9
        print(f"\n{IMAGE}: {size:.2f} GB (CUDA {torch.strip()}), layers {' '.join(sum(layers, []))}")  # noqa: T201, RUF017
    if torch.strip() == "None":
        assert found["Size"] < 1.8e9


def test_offline_a_hub_base_fails_at_once() -> None:
    code, said = ran(IMAGE, "serve", "--base", "someone/some-model", options=("-e", "HF_HUB_OFFLINE=1"))
    assert code in (1, 2)
    assert "someone/some-model" in said
    assert "Traceback" not in said


def test_the_doctor_finds_nothing_wrong() -> None:
    code, said = ran(IMAGE, "doctor", options=STRICT)
    assert code == 0, said
    assert "bitsandbytes" in said
