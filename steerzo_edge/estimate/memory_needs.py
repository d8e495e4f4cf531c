"""Memory needs as a sum of named parts, in bytes."""


class MemoryNeeds(dict[str, int]):
    """Bytes by the name of the part, in the order of a table."""

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.values())
