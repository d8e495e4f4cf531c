"""A process that has imported everything once, and forks a Python for every program that a test runs.

    python -m tests.forked SOCKET       answers requests until its standard input is closed

Importing the libraries takes four to five seconds of a processor; a forked program needs a fraction of one. It is a
process like any other: it has its own environment, directory, arguments, standard streams and threads, is signalled
and killed from outside, and ends with its own exit code. If it is asked to, it imports the project's packages
again, which may then be a changed copy. What libraries read from the environment while they are imported is that of
the first process: see `shared_environment`.

A request is a line of JSON, sent with three open files: standard input, output and error. The answer is a line with
the process id, and, when it has ended, one with the exit code, negative for a signal's.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[1]
OURS = ("steerzo_edge", "server", "benchmarks", "tests")
# An executable file that has a program run in a fork.
COMMAND = """#!{python} -IS
import json, os, socket, sys
request = {{"program": {program!r}, "arguments": sys.argv, "again": False}}
request |= {{"environment": dict(os.environ), "directory": os.getcwd()}}
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({place!r})
    socket.send_fds(connection, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
    pid, code = connection.makefile()
sys.exit(int(code) if int(code) >= 0 else 128 - int(code))
"""


class Fork:
    """A forked process, as `subprocess.Popen`.

    Args:
        place: The socket that takes requests.
        program: Python.
        arguments: `sys.argv`.
        environment: All of it.
        directory: Where it runs.
        files: Standard input, output and error.
        again: Whether it imports the project's packages itself, from its `PYTHONPATH`.
    """

    def __init__(
        self,
        place: str,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        files: Sequence[IO[Any]],
        *,
        again: bool,
    ) -> None:
        request = {
            "program": program,
            "arguments": [*arguments],
            "environment": dict(environment),
            "directory": str(directory),
            "again": again,
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(place)
        sent = json.dumps(request).encode() + b"\n"
        socket.send_fds(self._connection, [sent], [file.fileno() for file in files])
        self._answers = b""
        self._read(1, None)
        self.pid = int(self._answers.split()[0])

    def _read(self, lines: int, timeout_s: float | None) -> None:
        self._connection.settimeout(timeout_s)
        while self._answers.count(b"\n") < lines:
            found = self._connection.recv(100)
            assert found, "the process that forks has ended"
            self._answers += found

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        try:
            return self.wait(0)
        except (BlockingIOError, TimeoutError):
            return None

    def wait(self, timeout_s: float) -> int:
        """The exit code.

        Raises:
            TimeoutError: If it does not end within so many seconds.
        """
        if self._answers.count(b"\n") < 2:
            self._read(2, timeout_s)
            self._connection.close()
        return int(self._answers.split()[1])

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Forks:
    """The process that forks, and what it is asked for."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.place = str(Path(self._directory.name) / "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", self.place],
            cwd=ROOT, env=shared_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        atexit.register(self._end)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def _end(self) -> None:
        self._process.communicate()  # closes its input, and waits for its end
        self._directory.cleanup()

    def command(self, path: Path, program: str) -> None:
        """Writes an executable file that has a program run, with the arguments and environment that it is given."""
        path.write_text(COMMAND.format(python=sys.executable, program=program, place=self.place))
        path.chmod(0o755)

    def server(self, environment: Mapping[str, str], log: Path) -> Fork:
        """Starts `steerzo serve`.

        Args:
            environment: All of its environment.
            log: Takes what it writes, after what is there.
        """
        program = "import runpy; runpy.run_module('server', run_name='__main__', alter_sys=True)"
        with open(os.devnull) as nothing, log.open("ab") as output:
            files = (nothing, output, output)
            return Fork(self.place, program, ["server", "serve"], environment, Path.cwd(), files, again=False)

    def run(
        self, program: str, *arguments: str, environment: Mapping[str, str], directory: Path, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As `python -c PROGRAM ARGUMENTS`; the project's packages are those on its `PYTHONPATH`.

        Args:
            program: Python.
            arguments: `sys.argv` from its second element.
            environment: All of it.
            directory: Where it runs.
            timeout_s: Most seconds until it ends.

        Raises:
            TimeoutError: If it does not end.
        """
        with (
            open(os.devnull) as nothing,
            tempfile.TemporaryFile("w+") as output,
            tempfile.TemporaryFile("w+") as errors,
        ):
            files = (nothing, output, errors)
            fork = Fork(self.place, program, ["-c", *arguments], environment, directory, files, again=True)
            code = fork.wait(timeout_s)
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(program, code, output.read(), errors.read())


@cache
def forks() -> Forks:
    """The one of this process, started when it is first needed; it ends with this process."""
    return Forks()


def shared_environment() -> dict[str, str]:
    """What every server has in its environment, but for its own settings."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("STEERZO_")},
        "HF_HUB_OFFLINE": "1",
        # Tests share the machine: threads that wait must not spin.
        "OMP_WAIT_POLICY": "passive",
    }


def main(place: str) -> None:
    """Answers requests until its input is closed, then kills what still runs."""
    for module in ("server.commands.app", "server.commands.serve", "steerzo_edge.cli.train"):
        importlib.import_module(module)

    os.setpgid(0, 0)
    gc.collect()
    gc.freeze()  # so that what is forked collects its own objects only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if os.fork() == 0:
            _answer(listener)
        sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def _answer(listener: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that wait for programs
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _start_and_wait(connection)
        connection.close()


def _start_and_wait(connection: socket.socket) -> NoReturn:
    data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(json.loads(data), files)
    for file in files:
        os.close(file)
    with connection:
        connection.sendall(f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], files: list[int]) -> NoReturn:
    """The child: runs the program as a process of its own would."""
    for theirs, ours in zip(files, (0, 1, 2), strict=True):
        os.dup2(theirs, ours)
        os.close(theirs)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["again"]:
        _forget_ours()
    sys.argv = request["arguments"]
    sys.modules["__main__"] = own = types.ModuleType("__main__")
    code = 1
    try:
        exec(compile(request["program"], "<string>", "exec"), own.__dict__)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _forget_ours() -> None:
    """Has the project's packages imported again, from the directories that the environment names."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    named = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    # Its own first entry was the directory that `python -m` adds.
    sys.path[:] = ["", *named, *(path for path in sys.path if path not in ("", str(ROOT), *named))]
    importlib.invalidate_caches()


if __name__ == "__main__":
    main(sys.argv[1])
