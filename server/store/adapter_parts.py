"""The parts that adapters have in a server, put together."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Self

from server.store.adapter_cache import AdapterCache
from server.store.adapter_files import AdapterFiles
from server.store.adapter_names import Names
from server.store.adapters import AdapterTable
from server.store.database import Database
from server.store.directory import DataDirectory
from server.store.jobs import Store


@dataclass(frozen=True, slots=True)
class Adapters:
    """What is known of adapters, where they are, what they are called, which are in memory; who merges one."""

    register: AdapterTable
    files: AdapterFiles
    names: Names
    cache: AdapterCache
    merging: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, database: Database, library: DataDirectory, store: Store, *, memory_bytes: int) -> Self:
        """The parts of one server.

        Args:
            database: With the table of adapters.
            library: Where files are.
            store: Where jobs are.
            memory_bytes: What may be kept in memory.
        """
        register = AdapterTable(database)
        files = AdapterFiles(library)
        return cls(register, files, Names(store, register), AdapterCache(files, most_bytes=memory_bytes))
