"""How the device's time is shared: prompts first, and training gets at least its share.

While prompts are under way, training saves up a share of every second they take, and runs a time slice once its
savings pay for a whole one. So a short prompt is not interrupted at all, a long one now and then, and over time
training gets its share however long its time slices are. Without prompts training has the whole device and saves
nothing.
"""


class Shares:
    """The account of training's time.

    Args:
        training: Training's least share of the device's time while there are prompts, from 0 to below 1.

    Attributes:
        seconds: How long "training" and "prompts" have had the device in all.
    """

    def __init__(self, training: float) -> None:
        self.seconds = {"training": 0.0, "prompts": 0.0}
        self._share = training
        self._saved_s = 0.0
        self._time_slice_s = 0.0

    def prompted(self, seconds: float) -> None:
        """Books time that prompts had the device."""
        self.seconds["prompts"] += seconds
        self._saved_s += self._share * seconds

    def trained(self, seconds: float, *, among_prompts: bool) -> None:
        """Books a time slice of training.

        Args:
            seconds: How long it was.
            among_prompts: Whether prompts were under way.
        """
        self.seconds["training"] += seconds
        self._time_slice_s = seconds
        self._saved_s = self._saved_s - (1 - self._share) * seconds if among_prompts else 0.0

    def nothing_to_train(self) -> None:
        """Clears the savings when no job wants the device; the next job starts without them."""
        self._saved_s = self._time_slice_s = 0.0

    @property
    def is_training_due(self) -> bool:
        """Whether training may run a time slice although there are prompts."""
        return self._share > 0 and self._saved_s >= (1 - self._share) * self._time_slice_s
