"""How the device's time is shared: prompts first, training at least its share.

While prompts are under way, training earns a share of every second they take and spends it when what it has saved
pays for a whole quantum. So a short prompt is not interrupted at all, a long one now and then, and over time
training has its share, however long its quanta are. Without prompts training has everything, and saves nothing.
"""


class Shares:
    """The account of training.

    Args:
        training: Its least share of the device's time while there are prompts, from 0 to below 1.

    Attributes:
        seconds: What each has had of the device, in all.
    """

    def __init__(self, training: float) -> None:
        self.seconds = {"training": 0.0, "prompts": 0.0}
        self._share = training
        self._saved_s = 0.0
        self._quantum_s = 0.0

    def prompted(self, seconds: float) -> None:
        """Prompts have had the device."""
        self.seconds["prompts"] += seconds
        self._saved_s += self._share * seconds

    def trained(self, seconds: float, *, among_prompts: bool) -> None:
        """Training has had the device for a quantum.

        Args:
            seconds: How long.
            among_prompts: Whether there were prompts under way.
        """
        self.seconds["training"] += seconds
        self._quantum_s = seconds
        self._saved_s = self._saved_s - (1 - self._share) * seconds if among_prompts else 0.0

    def nothing_to_train(self) -> None:
        """No job wants the device: what training has saved is not kept for the next."""
        self._saved_s = self._quantum_s = 0.0

    @property
    def is_training_due(self) -> bool:
        """Whether training may have a quantum although there are prompts."""
        return self._share > 0 and self._saved_s >= (1 - self._share) * self._quantum_s
