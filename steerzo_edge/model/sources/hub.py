"""The model hub: the token that is sent to it, and what its refusals mean.

The token comes from `HF_TOKEN`, from `huggingface-cli login`, or from a file that `STEERZO_HF_TOKEN_FILE` names, as
container engines hand out secrets. It is passed on with each call, and never written anywhere.
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
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.sources.checkpoint import Checkpoint, Refusal
from steerzo_edge.model.sources.source import Content, Source, SourceKind

TOKEN_FILE: Final = "STEERZO_HF_TOKEN_FILE"
_TOKEN_HINT: Final = f"Put a token with read access into HF_TOKEN, or into a file that {TOKEN_FILE} names."


def hub_token() -> str | None:
    """The token in the secret file, if one is named; None leaves it to HF_TOKEN and the login.

    Raises:
        BaseModelError: If the file cannot be read or is empty. The message leaves out its path, which clients must
            not see.
    """
    named = os.environ.get(TOKEN_FILE)
    if not named:
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


def _refusal(error: BaseException, checkpoint: Checkpoint) -> Refusal | None:
    return explained_by_hub(error, checkpoint.name, checkpoint.revision)


def explained_by_hub(error: BaseException, name: str, revision: str | None) -> Refusal | None:
    """What an error means if it came from the hub; None for all others.

    Args:
        error: As it was caught.
        name: The hub id.
        revision: Commit, tag or branch that was asked for.
    """
    kinds = tuple(type(cause) for cause in _causes(error))

    def among(*known: type) -> bool:
        return any(issubclass(kind, known) for kind in kinds)

    if among(GatedRepoError):
        return Refusal(
            "is gated: its makers ask you to accept their conditions first",
            f"Accept them at {constants.ENDPOINT}/{name}. {_TOKEN_HINT}",
        )
    if among(RevisionNotFoundError):
        return Refusal(f"has no revision {revision!r} on the hub", "Name a commit, tag or branch that it has.")
    if among(RepositoryNotFoundError):
        return Refusal("is not on the hub, or is private", f"Check the name. {_TOKEN_HINT}")
    offline = among(OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE
    if offline and among(OfflineModeIsEnabled, LocalEntryNotFoundError, OSError):
        at = "" if revision is None else f"at revision {revision!r} "
        return Refusal(
            f"{at}is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set",
            f"Fetch it on a machine with network access (`hf download {name}`), or unset HF_HUB_OFFLINE.",
        )
    if among(LocalEntryNotFoundError):
        return Refusal(
            f"is not in the cache, and {constants.ENDPOINT} cannot be reached",
            "Check the network, or use a base from a local directory.",
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def hub_content(place: str, file: str, revision: str | None) -> Content | None:
    """The commit that a name leads to now, found by one request and one file.

    Args:
        place: The hub id.
        file: The file that is fetched if it is not in the cache.
        revision: Commit, tag or branch.

    Raises:
        OSError: If it is neither in the cache nor on the hub.
    """
    found = cached_file(place, file, revision=revision, token=hub_token())
    commit = extract_commit_hash(found, None)
    return None if commit is None else Content(version=f"{place}@{commit}:{file}")


def _content(checkpoint: Checkpoint) -> Content | None:
    return hub_content(checkpoint.place, "config.json", checkpoint.revision)


def _opened(name: str, revision: str | None) -> Source:
    return Checkpoint(name, name, revision, token=hub_token, refusal=_refusal, found_content=_content)


# The last kind: a name that is not a path is a hub id.
SOURCE: Final = SourceKind(matches=lambda name: True, opened=_opened)
