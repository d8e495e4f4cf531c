"""Work in the background of the device's thread."""

import threading

import pytest

from server.device.background import in_background, waited_for


def test_background_work_is_awaited_in_short_time_slices() -> None:
    go = threading.Event()
    future = in_background(lambda: go.wait(30) and threading.current_thread().name)
    moments = waited_for(future)
    for _ in range(3):
        next(moments)
    assert not future.done()
    go.set()
    assert len(list(moments)) < 2000
    assert future.result(0) == "background"
    assert list(waited_for(future)) == []


def test_an_error_in_the_background_is_raised_to_the_caller() -> None:
    def broken() -> None:
        raise ValueError("broken")

    future = in_background(broken)
    list(waited_for(future))
    with pytest.raises(ValueError, match="broken"):
        future.result(0)
