"""The parts that adapters have in a server, put together."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Self

from server.adapters.cache import AdapterCache
from server.adapters.files import AdapterFiles
from server.adapters.names import Names
from server.adapters.register import AdapterRegister
from server.data.library import Library
from server.database import Database
from server.jobs.store import Store


@dataclass(frozen=True, slots=True)
class Adapters:
    """What is known of adapters, where they are, what they are called, which are in memory; who merges one."""

    register: AdapterRegister
    files: AdapterFiles
    names: Names
    cache: AdapterCache
    merging: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, database: Database, library: Library, store: Store, *, memory_bytes: int) -> Self:
        """The parts of one server.

        Args:
            database: With the table of adapters.
            library: Where files are.
            store: Where jobs are.
            memory_bytes: What may be kept in memory.
        """
        register = AdapterRegister(database)
        files = AdapterFiles(library)
        return cls(register, files, Names(store, register), AdapterCache(files, most_bytes=memory_bytes))
