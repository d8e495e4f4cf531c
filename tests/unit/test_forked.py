"""Programs that tests run in a fork end, are signalled, read, write and import as processes of their own do."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.forked import ROOT, Fork, forks

SETTINGS = {"PATH": os.environ["PATH"], "COLOUR": "red"}


def run(program: str, *arguments: str, directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return forks().run(program, *arguments, environment={**SETTINGS, **more}, directory=directory, timeout_s=60)


def test_a_program_has_its_own_arguments_environment_and_directory(tmp_path: Path) -> None:
    program = "import os, sys; print(*sys.argv, os.getcwd(), sorted(os.environ)); sys.exit(3)"
    done = run(program, "a b", "c", directory=tmp_path)
    assert done.stdout == f"-c a b c {tmp_path} ['COLOUR', 'PATH']\n"
    assert (done.returncode, done.stderr) == (3, "")


def test_an_exception_ends_it_with_a_traceback(tmp_path: Path) -> None:
    done = run("print('before'); raise ValueError('what was wrong')", directory=tmp_path)
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "ValueError: what was wrong" in done.stderr


def test_a_changed_copy_of_a_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "copy" / "server").mkdir(parents=True)
    (tmp_path / "copy" / "server" / "__init__.py").write_text("NAME = 'the copy'\n")
    program = "import server; print(getattr(server, 'NAME', 'the original'))"
    assert run(program, directory=tmp_path, PYTHONPATH=str(tmp_path / "copy")).stdout == "the copy\n"
    assert run(program, directory=tmp_path, PYTHONPATH=str(ROOT)).stdout == "the original\n"


def test_a_signal_ends_it(tmp_path: Path) -> None:
    with open(os.devnull, "r+") as nothing:
        program, files = "import time; time.sleep(60)", [nothing, nothing, nothing]
        fork = Fork(forks().place, program, ["-c"], SETTINGS, tmp_path, files, again=False)
    assert fork.poll() is None
    with pytest.raises(TimeoutError):
        fork.wait(0.01)
    fork.send_signal(signal.SIGKILL)
    assert fork.wait(10) == fork.poll() == -signal.SIGKILL


def test_an_executable_file_reads_and_writes_the_callers_files(tmp_path: Path) -> None:
    forks().command(tmp_path / "louder", "import sys; print(sys.argv[1], sys.stdin.read().upper()); sys.exit(4)")
    command = [str(tmp_path / "louder"), "said:"]
    done = subprocess.run(command, input="hello", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "said: HELLO\n", "")
