"""The picture of a curve: memory on one axis, seconds to a loss on the other. It needs matplotlib."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from steerzo_edge.curve.model import Curve, CurvePoint
from steerzo_edge.curve.words import MIB, duration, notes, seconds_in_words, title
from steerzo_edge.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; the markers say the same.
STYLES = {"exact": ("#009E73", "D"), "hybrid": ("#E69F00", "s")}
FORWARD_ONLY = ("#0072B2", "o")
GREY = "#666666"
# Seconds that people count in, up to days.
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400, 172800, 604800)
MARKS = (
    "Filled: reached within the probe. Open, with an arrow: at least. Cross: does not fit. Open: no seconds known."
)
ASIDE = 11  # points from a mark to its label
FORMATS = (".svg", ".png", ".pdf")


def check_picture(path: Path) -> None:
    """Refuses what `draw` could not write, before anything is measured.

    Args:
        path: Of the picture.

    Raises:
        InputError: If its name has another ending, its directory is missing, or matplotlib is.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"the picture {str(path)!r} must end with one of {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no directory {str(path.parent)!r}", hint="Create it first.")
    if find_spec("matplotlib") is None:
        raise InputError("the picture needs matplotlib", hint="Run: pip install 'steerzo-edge[plot]'")


def draw(curve: Curve, path: Path) -> None:
    """Draws the ways: filled where the seconds are measured, hollow with an arrow where they are a lower bound.

    Ways without seconds stand on a line of their own above the others.

    Args:
        curve: The measured ways.
        path: A .svg, .png or .pdf.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "steerzo", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(9.5, 6.2), layout="constrained")
        axes = figure.subplots()
        known = [point.seconds for point in curve.points if point.seconds is not None]
        low, high = min(known, default=1.0), max(known, default=10.0)
        above = high * max(4.0, (high / low) ** 0.25)  # where ways without seconds stand
        unknown = len(known) < len(curve.points)
        axes.set_yscale("log")
        axes.set_ylim(low / 2, above * 1.8 if unknown else high * 2.5)
        _frame(axes, curve, above if unknown else None)
        target = "a loss" if curve.loss is None else f"a loss of {curve.loss:.3f}"
        axes.set_title(f"{curve.base}: memory and time to {target}\n{curve.machine}", fontsize=11, loc="left")
        figure.supxlabel("\n".join((*notes(curve), MARKS)), fontsize=8, color=GREY, x=0.02, ha="left")
        for point in curve.points:
            _mark(axes, point, _height(point, above))
        figure.draw_without_rendering()  # fixes the layout, so that labels can be placed
        _label(figure, axes, [(point, _height(point, above)) for point in curve.points])
        figure.savefig(path, dpi=130)


def _height(point: CurvePoint, above: float) -> float:
    return above if point.seconds is None else point.seconds


def _mark(axes: "Axes", point: CurvePoint, at: float) -> None:
    color, marker = STYLES.get(point.method, FORWARD_ONLY)
    x = point.bytes / MIB
    solid = point.seconds is not None and point.reach.how == "measured"
    if not point.fits:
        marker = "x"
    axes.plot([x], [at], marker, color=color, markersize=11, markerfacecolor=color if solid else "white", mew=2)
    if point.seconds is not None and not solid:
        arrow = {"arrowstyle": "->", "color": color, "lw": 1.8}
        axes.annotate("", (x, at), (0, 26), textcoords="offset points", arrowprops={**arrow, "arrowstyle": "<-"})


def _label(figure: "Figure", axes: "Axes", placed: Sequence[tuple[CurvePoint, float]]) -> None:
    """Writes each way's name to the right of its mark, moved up or down where it would cover another."""
    from matplotlib.transforms import Bbox, IdentityTransform

    per_point = figure.dpi / 72  # pixels
    at = [axes.transData.transform((point.bytes / MIB, height)) for point, height in placed]
    taken = [Bbox.from_bounds(x - 9, y - 9, 18, 18) for x, y in at]
    for (point, height), (x, y) in zip(placed, at, strict=True):
        size = f"{point.bytes / MIB:,.0f} MiB{'' if point.peak is not None else ' (estimated)'}"
        words = f"{title(point)}\n{seconds_in_words(point)}, {size}"
        written = axes.text(0, 0, words, fontsize=9, transform=IdentityTransform())
        extent = written.get_window_extent()
        written.remove()
        for move in sorted(range(-160, 161, 4), key=abs):
            box = Bbox.from_bounds(x + ASIDE * per_point, y + move - extent.height / 2, extent.width, extent.height)
            inside = axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 7} if move else None
        where = (ASIDE, move / per_point)
        place = (point.bytes / MIB, height)
        axes.annotate(words, place, where, textcoords="offset points", va="center", fontsize=9, arrowprops=line)


def _frame(axes: "Axes", curve: Curve, above: float | None) -> None:
    sizes = [point.bytes / MIB for point in curve.points]
    low, high = min(sizes), max(sizes)
    limit = curve.limit / MIB
    width = max(high - low, 0.1 * high)
    axes.set_xlim(max(0.0, low - 0.1 * width), high + 0.75 * width)
    if limit < high + 0.7 * width:
        axes.axvline(limit, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(f"limit: {limit:,.0f} MiB", (limit, 0.02), xycoords=("data", "axes fraction"), fontsize=8)
    bottom, top = axes.get_ylim()
    if above is not None:
        top = above / 1.7
        axes.axhspan(top, above * 2, color="#f2f2f2", zorder=0)
        axes.text(
            0.99, 0.975, "no seconds known", transform=axes.transAxes, fontsize=8, color=GREY, va="top", ha="right"
        )
    ticks = [tick for tick in TICKS if bottom <= tick <= top]
    axes.set_yticks(ticks, [duration(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xlabel("peak memory of the process, MiB")
    axes.set_ylabel("time to the loss")
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
