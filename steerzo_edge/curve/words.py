"""The words for ways and for their seconds, which the table and the picture share."""

from steerzo_edge.curve.model import Curve, CurvePoint

MIB = 1 << 20


def title(point: CurvePoint) -> str:
    """A way in words, such as "exact gradients, lean (checkpointing)".

    Args:
        point: The way.
    """
    name = "forward passes only"
    if point.method == "hybrid":
        name = f"hybrid with {point.exact_layers} exact layer{'' if point.exact_layers == 1 else 's'}"
    elif point.exact_layers:
        name = "exact gradients"
    kept = f" ({point.kept})" if point.kept else ""
    return f"{name}, {point.memory}{kept}"


def seconds_in_words(point: CurvePoint) -> str:
    """The seconds to the loss, with "at least" where they are extrapolated, or why there are none.

    Args:
        point: The way.
    """
    if not point.fits:
        return "does not fit"
    if point.seconds is None:
        return point.failure or _missing(point)
    return f"{'at least ' if point.reach.how == 'at-least' else ''}{duration(point.seconds)}"


def _missing(point: CurvePoint) -> str:
    if point.search_s is None:
        return "the search for settings was not finished"
    if len(point.learned) < 2:
        return "no evaluation was made after the start"
    return f"no progress in {point.learned[-1].steps} steps"


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader thinks in.

    Args:
        seconds: At least 0.
    """
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.2g} h" if seconds < 48 * 3600 else f"{seconds / 86400:.2g} d"


def notes(curve: Curve) -> list[str]:
    """Sentences that say what the figures are.

    Args:
        curve: The measured ways.
    """
    if curve.loss is None:
        target = "No way lowered the loss within the probe, so there are no seconds; give it more."
    elif curve.chosen:
        target = f"Time to a loss of {curve.loss:.3f} on rows not trained on."
    else:
        target = f"Time to a loss of {curve.loss:.3f} on rows not trained on, the lowest that a probe reached."
    return [
        target,
        "Measured here: peak memory, seconds a step, the losses of the probe; evaluations are not in the seconds.",
        "At least: the probe did not get so far; its straight line is continued, and learning slows down.",
        "Steps of the first epoch were timed; with frozen lower layers later ones are shorter.",
    ]
