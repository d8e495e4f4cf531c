"""Exports of a server: apart from it, refused in words where they cannot be made, one at a time, nothing left."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from server.errors import NoRoomError
from server.services import exports
from server.services.exports import export_needs, exported
from server.services.quota import Quota
from steerzo_edge.errors import BaseModelError, BusyError, ConflictError
from steerzo_edge.estimate.anatomy import bare_model, load_config
from steerzo_edge.export.forms import Form
from steerzo_edge.model import building as building_module
from steerzo_edge.model.base import Base
from steerzo_edge.model.building import building
from tests.conftest import Loader
from tests.unit.runner_box import Box, Clock
from tests.unit.test_adapters import uploaded

FORMS: tuple[Form, ...] = ("merged", "gguf", "gguf-lora")


def server_of(box: Box, check: Callable[..., None] = lambda more_bytes, datasets: None) -> Any:
    return SimpleNamespace(
        adapters=box.adapters,
        notifier=SimpleNamespace(closed=False),
        device=SimpleNamespace(base=box.base),
        settings=SimpleNamespace(model=SimpleNamespace(revision=None)),
        quota=SimpleNamespace(check=check),
    )


def left(box: Box) -> list[str]:
    return [path.name for path in (box.root / "adapters").iterdir() if path.name.startswith(".")]


def pretended(form: Form, adapter: Path, out: Path, name: str, **more: Any) -> None:
    out.mkdir(parents=True)
    (out / "model").write_bytes(bytes(1000))


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def test_a_base_without_sixteen_bits_is_a_conflict(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    row = uploaded(box, "mine")

    def refused(*given: Any, **more: Any) -> None:
        raise BaseModelError("it was released quantized")

    monkeypatch.setattr(exports, "export_apart", refused)
    with pytest.raises(ConflictError, match="exported in this form: it was released"):
        exported(server_of(box), row, "merged")
    assert left(box) == []
    assert not box.adapters.export_lock.locked()


@pytest.mark.parametrize("form", FORMS)
def test_too_little_memory_is_told_before_anything_is_loaded(
    box: Box, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    row = uploaded(box, "mine")
    monkeypatch.setattr(exports, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(exports, "export_apart", None)
    with pytest.raises(ConflictError, match="are free"):
        exported(server_of(box), row, form)
    assert not box.adapters.export_lock.locked()


@pytest.mark.parametrize("form", FORMS)
def test_disk_and_quota_are_looked_at_first(box: Box, monkeypatch: pytest.MonkeyPatch, form: Form) -> None:
    row = uploaded(box, "mine")
    quota = Quota(box.root, box.job_table._database, most_bytes=1, most_datasets=9, least_free_bytes=0)
    monkeypatch.setattr(exports, "export_apart", None)
    with pytest.raises(NoRoomError, match="the quota is 1"):
        exported(server_of(box, quota.check), row, form)


def test_temporary_files_do_not_count_towards_the_quota(box: Box) -> None:
    quota = Quota(
        box.root, box.job_table._database, most_bytes=1, most_datasets=9, least_free_bytes=0, now=iter_clock()
    )
    before = quota.held_bytes()
    (box.adapters.files.outgoing() / "file").write_bytes(bytes(100_000))
    assert quota.held_bytes() == before
    (box.adapters.files.fresh() / "file").write_bytes(bytes(100_000))
    assert quota.held_bytes() == before + 100_000
    assert len(left(box)) == 2
    box.adapters.files.sweep(box.adapters.table)
    assert left(box) == []


def iter_clock() -> Callable[[], float]:
    seconds = iter(range(0, 10_000, 100))
    return lambda: float(next(seconds))


def test_needs_are_weights_and_the_largest_and_logits(box: Box) -> None:
    adapter = box.adapters.files.directory(uploaded(box, "mine"))
    base = box.base
    whole, alone = export_needs("gguf", base, adapter), export_needs("gguf-lora", base, adapter)
    bare = bare_model(load_config(base.name))
    weights = 2 * sum(parameter.numel() for parameter in bare.parameters())
    largest = 4 * max(parameter.numel() for parameter in bare.parameters())
    assert whole.disk_bytes == weights
    assert whole.memory_bytes > weights + largest
    assert 0 < alone.disk_bytes < whole.disk_bytes


@pytest.mark.parametrize("form", FORMS)
def test_every_export_format_is_made_in_a_separate_process(box: Box, form: Form) -> None:
    row, others = uploaded(box, "mine"), children()
    found = exported(server_of(box), row, form)
    try:
        assert left(box) == []  # open still, and gone from the disk
        assert children() <= others
        name, start = ("model.safetensors", b"") if form == "merged" else (f"{row.id}.gguf", b"GGUF")
        assert found.files[name].read(1 << 20).startswith(start)
        assert box.adapters.export_lock.locked()
    finally:
        found.close()
    assert all(file.closed for file in found.files.values())
    assert not box.adapters.export_lock.locked()


@pytest.mark.parametrize("form", FORMS)
def test_exports_run_one_at_a_time(box: Box, monkeypatch: pytest.MonkeyPatch, form: Form) -> None:
    monkeypatch.setattr(exports, "export_apart", pretended)
    row, server = uploaded(box, "mine"), server_of(box)
    first = exported(server, row, "merged")
    with pytest.raises(BusyError, match="still being sent"):
        exported(server, row, form)
    first.close()
    second = exported(server, row, "merged")
    first.close()  # once more: the turn is another's now
    assert box.adapters.export_lock.locked()
    second.close()
    assert not box.adapters.export_lock.locked()


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Every float type that is made torch's default, which belongs to all threads."""
    found: list[torch.dtype] = []
    set_default = torch.set_default_dtype

    def noted(dtype: torch.dtype) -> None:
        found.append(dtype)
        set_default(dtype)

    monkeypatch.setattr(torch, "set_default_dtype", noted)
    return found


def test_an_export_never_changes_the_default_float_type(
    tmp_path: Path, bundled: Base, defaults: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the server's own process: what the other one does there is its own."""
    monkeypatch.setattr(exports, "export_apart", pretended)
    box = Box(tmp_path / "data", bundled, Clock())
    exported(server_of(box), uploaded(box, "mine"), "merged").close()
    assert set(defaults) <= {torch.float32}


def test_building_a_model_does_change_the_default_float_type(tiny: Loader, defaults: list[torch.dtype]) -> None:
    """What the other tests guard against: `transformers` changes it while it builds, then changes it back."""
    with building(), torch.device("meta"):
        AutoModelForCausalLM.from_config(load_config(tiny("nf4").name), dtype=torch.bfloat16)
    assert defaults[0] is torch.bfloat16
    assert defaults[-1] is torch.float32


@pytest.mark.parametrize(
    ("is_locked", "left"), [(True, torch.float32), (False, torch.bfloat16)], ids=["locked", "without the lock"]
)
def test_models_that_are_built_by_two_threads_leave_the_default(
    monkeypatch: pytest.MonkeyPatch, is_locked: bool, left: torch.dtype
) -> None:
    """The second thread begins inside the first one's build, if it can: then it "restores" the wrong type."""
    if not is_locked:
        monkeypatch.setattr("steerzo_edge.model.building._LOCK", nullcontext())
    first_is_inside, second_is_inside, first_is_done = (threading.Event() for _ in range(3))

    def first() -> None:
        with building():
            torch.set_default_dtype(torch.bfloat16)
            first_is_inside.set()
            second_is_inside.wait(0.5 if is_locked else 60)  # with the lock it never is
        first_is_done.set()

    def second() -> None:
        first_is_inside.wait(60)
        with building():
            second_is_inside.set()
            first_is_done.wait(60)

    threads = [threading.Thread(target=build) for build in (first, second)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() is left
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_bare_model_is_built_inside_the_lock(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread cannot take it meanwhile, and can before and after."""
    config, build = load_config(tiny("nf4").name), AutoModelForCausalLM.from_config
    taken: list[bool] = []

    def try_to_take() -> None:
        taken.append(lock.acquire(blocking=False))
        if taken[-1]:
            lock.release()

    def from_another_thread() -> None:
        thread = threading.Thread(target=try_to_take)
        thread.start()
        thread.join()

    def built(*parts: Any, **settings: Any) -> Any:
        from_another_thread()
        return build(*parts, **settings)

    lock = building_module._LOCK
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", built)
    from_another_thread()
    bare_model(config)
    from_another_thread()
    assert taken == [True, False, True]


@pytest.mark.parametrize("why", ["left", "shutdown"])
def test_a_cancelled_export_stops_waiting(box: Box, why: str) -> None:
    row, server, others = uploaded(box, "mine"), server_of(box), children()
    asked: list[int] = []

    def unwanted() -> bool:
        asked.append(len(children() - others))
        server.notifier.closed = why == "shutdown"
        return why == "left"

    with pytest.raises(BusyError, match="no longer wanted"):
        exported(server, row, "merged", unwanted=unwanted)
    assert asked[0] == 1
    assert children() <= others
    assert left(box) == []
    assert not box.adapters.export_lock.locked()
