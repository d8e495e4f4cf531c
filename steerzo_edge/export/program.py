"""The program that `apart.py` starts: makes one export, and writes errors as JSON to standard output.

    python -P -m steerzo_edge.export.program BYTES FORM ADAPTER OUT NAME REVISION

BYTES is the limit of its memory (0: no limit). It ends when its standard input is closed.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

from steerzo_edge.errors import SteerzoError
from steerzo_edge.export.apart import NO_MEMORY, REFUSED
from steerzo_edge.export.forms import FORMS, Form, export


def _main(form: str, adapter: str, out: str, name: str, revision: str) -> int:
    known: dict[str, Form] = {word: word for word in FORMS}
    try:
        export(known[form], Path(adapter), Path(out), name, revision=revision or None)
    except SteerzoError as error:
        return _refused(kind=type(error).__name__, message=str(error), hint=error.hint)
    except OSError as error:
        if error.errno is None:
            raise
        return _refused(kind="OSError", message=error.strerror, errno=error.errno)
    except MemoryError:
        return NO_MEMORY
    except RuntimeError as error:
        if "allocate memory" in str(error):  # torch's CPU allocator raises a plain RuntimeError
            return NO_MEMORY
        raise
    return 0


def _refused(**refused: object) -> int:
    sys.stdout.write(json.dumps(refused))
    sys.stdout.flush()
    return REFUSED


def _end_with_parent() -> None:
    while os.read(0, 1):
        continue
    os._exit(1)


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with suppress(OSError):  # exists on Linux only
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    Thread(target=_end_with_parent, daemon=True).start()
    _limit(int(sys.argv[1]))
    sys.exit(_main(*sys.argv[2:]))
