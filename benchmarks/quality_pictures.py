"""Pictures of the runs of `benchmarks.quality`: validation loss over forward passes, seconds and steps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality_curves import EXACT, Run, by_method, common_points, cost_of, final_loss

SHOWN = ("two-point", "guiding-vector(2)", "guiding-vector(8)", "greedy(4)", "all-losses(8)", "weighted-guide(16)")


def draw_curves(
    path: Path,
    runs: Sequence[Run],
    datasets: Sequence[str],
    methods: Sequence[str],
    along: Callable[[Run, int], float],
    label: str,
) -> None:
    """Draws the validation loss of some methods, a panel for each dataset.

    Args:
        path: Of the picture.
        runs: All runs.
        datasets: Names of the panels.
        methods: Names of the curves; the last one is drawn bold.
        along: Where a run is on the x-axis after some steps.
        label: Of the x-axis.
    """
    if not datasets:
        return
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = Figure(figsize=(5 * columns, 3.8 * rows + 0.6), layout="constrained")
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(len(datasets))]
    for name, place in zip(datasets, axes, strict=True):
        own = by_method([run for run in runs if run["dataset"] == name and run["kind"] == "tuned"])
        for index, method in enumerate(methods):
            if method in own:
                _curve(place, own[method], along, method, index, bold=method == methods[-1])
        _ends(place, [run for run in runs if run["dataset"] == name])
        place.set(title=name, xlabel=label, ylabel="validation loss, nats")
        place.set_ylim(top=1.05 * max(run["curve"][0][2] for own_runs in own.values() for run in own_runs))
    _legend(figure, axes)
    figure.savefig(path, dpi=110)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draws one legend for all panels."""
    pairs = [zip(*place.get_legend_handles_labels(), strict=True) for place in axes]
    named = {label: handle for pair in pairs for handle, label in pair}
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=5, frameon=False)


def _curve(
    place: Axes, runs: Sequence[Run], along: Callable[[Run, int], float], label: str, index: int, *, bold: bool
) -> None:
    """Draws the median over the seeds, and the range of their values."""
    common = common_points(runs)
    x = [along(runs[0], step) for step, _ in common]
    losses = [values for _, values in common]
    color = "black" if bold else f"C{index}"
    place.plot(x, [median(values) for values in losses], label=label, color=color, linewidth=2.4 if bold else 1.3)
    place.fill_between(x, [min(v) for v in losses], [max(v) for v in losses], color=color, alpha=0.1, linewidth=0)


def _ends(place: Axes, runs: Sequence[Run]) -> None:
    """Draws the loss before training and that of exact gradients as level lines."""
    tuned = [run for run in runs if run["kind"] == "tuned"]
    if tuned:
        place.axhline(tuned[0]["curve"][0][2], color="grey", linestyle=":", linewidth=1, label="zero-shot")
    exact = [final_loss(run) for run in runs if run["kind"] == EXACT]
    if exact:
        place.axhline(min(exact), color="grey", linestyle="--", linewidth=1, label="exact gradients (Adam)")


def draw_equal_steps(path: Path, runs: Sequence[Run], default: str) -> None:
    """Draws runs of equal length over steps, as the papers do (left), and over forward passes (right)."""
    equal = [run for run in runs if run["kind"] == "equal-steps"]
    datasets = list(dict.fromkeys(run["dataset"] for run in equal))
    if not datasets:
        return
    figure = Figure(figsize=(10, 3.8 * len(datasets) + 0.6), layout="constrained")
    for row, name in enumerate(datasets):
        for column, (kind, title) in enumerate((("equal-steps", "equal steps"), ("tuned", "equal forwards"))):
            own = by_method([run for run in runs if run["dataset"] == name and run["kind"] == kind])
            place = figure.add_subplot(len(datasets), 2, 2 * row + column + 1)
            for index, method in enumerate(method for method in [*SHOWN, default] if method in own):
                steps: Callable[[Run, int], float] = (
                    (lambda run, step: float(step)) if column == 0 else (lambda run, step: step * cost_of(run))
                )
                _curve(place, own[method], steps, method, index, bold=method == default)
            label = "steps" if column == 0 else "forward passes"
            place.set(title=f"{name}, {title}", xlabel=label, ylabel="validation loss, nats")
    _legend(figure, figure.axes)
    figure.savefig(path, dpi=110)
