"""Everything that stores adapters: table, files, names, and the cache of loaded ones."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Self

from server.store.adapter_cache import AdapterCache
from server.store.adapter_files import AdapterFiles
from server.store.adapter_names import AdapterNames
from server.store.adapters import AdapterTable
from server.store.database import Database
from server.store.directory import DataDirectory
from server.store.jobs import JobTable


@dataclass(frozen=True, slots=True)
class AdapterStore:
    """The stored adapters of a server.

    Args:
        table: Their rows.
        files: Their directories.
        names: Looks them up by the names that requests use.
        cache: Those in memory.
        export_lock: Held while one of them is exported or an export is being sent.
    """

    table: AdapterTable
    files: AdapterFiles
    names: AdapterNames
    cache: AdapterCache
    export_lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, database: Database, directory: DataDirectory, job_table: JobTable, *, memory_bytes: int) -> Self:
        """Builds the parts.

        Args:
            database: The database that holds the table of adapters.
            directory: The data directory.
            job_table: The table of jobs.
            memory_bytes: Most bytes of adapters kept in memory.
        """
        table = AdapterTable(database)
        files = AdapterFiles(directory)
        return cls(table, files, AdapterNames(job_table, table), AdapterCache(files, most_bytes=memory_bytes))
