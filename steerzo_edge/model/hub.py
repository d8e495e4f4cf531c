"""The model hub: with which token it is asked, and what its refusals mean in words.

A token comes from `HF_TOKEN`, from `huggingface-cli login`, or from a file that `STEERZO_HF_TOKEN_FILE` names, as
container engines hand out secrets. It is passed on call by call, and never written anywhere.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from steerzo_edge.errors import BaseModelError

TOKEN_FILE: Final = "STEERZO_HF_TOKEN_FILE"
_TOKEN_HINT: Final = f"Put a token that may read it into HF_TOKEN, or into a file that {TOKEN_FILE} names."


def hub_token(source: str) -> str | None:
    """The token in the secret file, if one is named; None leaves it to HF_TOKEN and the login.

    Args:
        source: What is asked for: a hub id, or a path. The file is read for hub ids alone.

    Raises:
        BaseModelError: If the file cannot be read, or is empty; without its path, which is nobody else's business.
    """
    named = os.environ.get(TOKEN_FILE)
    if not named or _is_path(source) or Path(source).is_dir():
        return None
    try:
        token = Path(named).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _unread(error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise _unread("it is not UTF-8") from None
    if not token:
        raise BaseModelError(f"{TOKEN_FILE} names a file that is empty", hint=_TOKEN_HINT)
    return token


def _unread(why: str) -> BaseModelError:
    return BaseModelError(f"{TOKEN_FILE} names a file that cannot be read: {why}", hint=_TOKEN_HINT)


def _is_path(source: str) -> bool:
    return Path(source).is_absolute() or source.startswith(".")


def explained(error: BaseException, name: str, revision: str | None, what: str = "base model") -> BaseModelError:
    """An error of `transformers` or of the hub, as one that says what to do.

    Args:
        error: As it was caught.
        name: The base that was asked for.
        revision: Commit, tag or branch, if one was named.
        what: What could not be had.
    """
    if isinstance(error, BaseModelError):
        return error
    kinds = tuple(type(cause) for cause in _causes(error))
    told = _refusal(kinds, name, revision, f"{what} {name!r}")
    if told is not None:
        return BaseModelError(told[0], hint=told[1])
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BaseModelError(f"{what} {name!r} cannot be loaded: {first}")


def _refusal(kinds: tuple[type, ...], name: str, revision: str | None, what: str) -> tuple[str, str] | None:
    def among(*known: type) -> bool:
        return any(issubclass(kind, known) for kind in kinds)

    if _is_path(name):
        return (
            None
            if Path(name).is_dir()
            else (f"{what} cannot be loaded: there is no such directory", "Check the path.")
        )
    if among(GatedRepoError):
        return (
            f"{what} is gated: its makers want to be asked first",
            f"Accept their conditions at {constants.ENDPOINT}/{name}. {_TOKEN_HINT}",
        )
    if among(RevisionNotFoundError):
        return f"{what} has no revision {revision!r} on the hub", "Name a commit, tag or branch that it has."
    if among(RepositoryNotFoundError):
        return f"{what} is not on the hub, or is private", f"Check the name. {_TOKEN_HINT}"
    offline = among(OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE
    if offline and among(OfflineModeIsEnabled, LocalEntryNotFoundError, OSError) and not Path(name).is_dir():
        at = "" if revision is None else f" at revision {revision!r}"
        return (
            f"{what}{at} is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set",
            f"Fetch it where there is a network (`hf download {name}`), or unset HF_HUB_OFFLINE.",
        )
    if among(LocalEntryNotFoundError):
        return (
            f"{what} is not in the cache, and {constants.ENDPOINT} cannot be reached",
            "Look at the network, or use a base from a local directory.",
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
