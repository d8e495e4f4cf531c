"""Makes ids of jobs, datasets, adapters and requests."""

import hashlib
import re
from typing import Final
from uuid import uuid4

ID: Final = re.compile(r"[a-z]{2,8}_[0-9a-f]{16}")


def new_id(kind: str) -> str:
    """A random id such as "job_5f0c..."; ids are not secret, but cannot be guessed."""
    return f"{kind}_{uuid4().hex[:16]}"


def content_id(kind: str, *parts: bytes) -> str:
    """An id made from content: the same content gets the same id."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return f"{kind}_{digest.hexdigest()[:16]}"
