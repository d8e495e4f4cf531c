"""A process that has imported the server once, and forks every server that a test asks for.

    python -m tests.server.forkserver     requests on its standard input, answers on its output, one JSON a line

Imports take four seconds of a processor, and the tests start dozens of servers. A forked server is a process like
any other: it has its own environment, files and threads, and is signalled and killed from outside.

    {"start": [environment, log, directory]}    forks `steerzo serve`; {"pid": 123}
    {"poll": 123}                               {"code": null} while it runs, then its exit code
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]


class ForkServer:
    """The other end of it: used by tests, one for each process that runs them."""

    def __init__(self) -> None:
        # What libraries read while they are imported is the same for every server: see `ServerProcess`.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.forkserver"],
            cwd=ROOT, env=shared_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        atexit.register(self._process.communicate)  # closes its input, and waits for its end

    def start(self, environment: dict[str, str], log: Path) -> int:
        """Forks a server.

        Args:
            environment: All of its environment.
            log: Takes what it writes, after what is there.

        Returns:
            Its process id.
        """
        return int(self._asked({"start": [environment, str(log), os.getcwd()]})["pid"])

    def poll(self, pid: int) -> int | None:
        """The exit code of a server, negative for a signal's; None while it runs. Ask no more once it has ended."""
        code: int | None = self._asked({"poll": pid})["code"]
        return code

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@cache
def fork_server() -> ForkServer:
    """The one of this process, started when it is first needed; it ends with this process."""
    return ForkServer()


def shared_environment() -> dict[str, str]:
    """What every server has in its environment, but for its own settings."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("STEERZO_")},
        "HF_HUB_OFFLINE": "1",
        # Tests share the machine: threads that wait must not spin.
        "OMP_WAIT_POLICY": "passive",
    }


def main() -> None:
    """Answers requests until its input is closed, then kills what still runs."""
    import server.commands.app
    import server.commands.serve  # noqa: F401

    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _serve(*request["start"])
            running.add(pid)
            answer: dict[str, int | None] = {"pid": pid}
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            running.discard(pid)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _serve(environment: dict[str, str], log: str, directory: str) -> NoReturn:
    """The child: `python -m server serve`."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for theirs, ours in ((nothing, 0), (handle, 1), (handle, 2)):
        os.dup2(theirs, ours)
    os.close(nothing)
    os.close(handle)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["server", "serve"]
    code = 1
    try:
        runpy.run_module("server", run_name="__main__", alter_sys=True)
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


if __name__ == "__main__":
    main()
