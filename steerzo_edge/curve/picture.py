"""The picture of a curve: memory on one axis, seconds to a loss on the other. It needs matplotlib."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from steerzo_edge.curve.model import Curve, CurvePoint
from steerzo_edge.curve.words import MIB, duration, notes, seconds_in_words, title
from steerzo_edge.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart; the markers say the same.
STYLES = {"exact": ("#009E73", "D"), "hybrid": ("#E69F00", "s")}
FORWARD_ONLY = ("#0072B2", "o")
GREY = "#666666"
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
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.subplots()
        known = [point.seconds for point in curve.points if point.seconds is not None]
        low, high = min(known, default=1.0), max(known, default=10.0)
        above = high * (high / low * 4) ** 0.25 * 1.6
        for point in curve.points:
            _mark(axes, point, above)
        axes.set_yscale("log")
        axes.set_ylim(low / 2, above * 1.9)
        _frame(axes, curve, above, unknown=len(known) < len(curve.points))
        target = "a loss" if curve.loss is None else f"a loss of {curve.loss:.3f}"
        axes.set_title(f"{curve.base}: memory and time to {target}\n{curve.machine}", fontsize=11, loc="left")
        figure.supxlabel("\n".join(notes(curve)), fontsize=8, color=GREY, x=0.02, ha="left")
        figure.savefig(path, dpi=130)


def _mark(axes: "Axes", point: CurvePoint, above: float) -> None:
    color, marker = STYLES.get(point.method, FORWARD_ONLY)
    at = above if point.seconds is None else point.seconds
    x = point.bytes / MIB
    solid = point.seconds is not None and point.reach.how == "measured"
    if not point.fits:
        marker = "x"
    axes.plot([x], [at], marker, color=color, markersize=11, markerfacecolor=color if solid else "white", mew=2)
    if point.seconds is not None and not solid:
        axes.annotate("", (x, at * 1.45), (x, at * 1.1), arrowprops={"arrowstyle": "->", "color": color, "lw": 1.8})
    size = f"{x:,.0f} MiB{'' if point.peak is not None else ' (estimated)'}"
    text = f"{title(point)}\n{seconds_in_words(point)}, {size}"
    axes.annotate(text, (x, at), (11, 0), textcoords="offset points", va="center", fontsize=9, color="black")


def _frame(axes: "Axes", curve: Curve, above: float, *, unknown: bool) -> None:
    sizes = [point.bytes / MIB for point in curve.points]
    low, high = min(sizes), max(sizes)
    limit = curve.limit / MIB
    width = max(high - low, 0.1 * high)
    axes.set_xlim(max(0.0, low - 0.1 * width), high + 0.75 * width)
    if limit < high + 0.7 * width:
        axes.axvline(limit, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(f"limit: {limit:,.0f} MiB", (limit, 0.02), xycoords=("data", "axes fraction"), fontsize=8)
    if unknown:
        axes.axhspan(above / 1.5, above * 2, color="#f2f2f2", zorder=0)
        axes.annotate(
            "no seconds known", (0.01, above * 1.45), xycoords=("axes fraction", "data"), fontsize=8, color=GREY
        )
    axes.yaxis.set_major_formatter(lambda value, _: duration(value))
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("peak memory of the process, MiB")
    axes.set_ylabel("time to the loss")
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
