/** The ways to run a job: a picture of their memory and of the time of a step, and the same as a table. */

import { h, svg } from "../dom.js";
import { bytes, count, duration } from "../format.js";

const WIDTH = 340;
const HEIGHT = 190;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 34;
const RADIUS = 9;

/**
 * @param {Array<{method: string, memory: string, kept: string, exact_layers: number, bytes: number,
 *   seconds: number, fits: boolean}>} found
 * @returns {HTMLElement}
 */
export function ways(found) {
  const named = found.map((way, index) => ({ ...way, letter: String.fromCharCode(65 + index) }));
  return h("figure", { class: "ways" }, h("figcaption", { class: "small" }, caption()), picture(named), table(named));
}

function caption() {
  return [
    h("b", {}, "Ways to run this job"),
    h(
      "span",
      { class: "muted" },
      " Computed from the sizes of the base and rows, not measured. A step with exact gradients is worth many of the others: usually 10 to 100.",
    ),
  ];
}

function picture(found) {
  const across = scale(
    found.map((way) => way.bytes),
    LEFT + RADIUS + 4,
    WIDTH - RIGHT - RADIUS - 4,
    (value) => value,
  );
  const up = scale(
    found.map((way) => Math.max(way.seconds, 1e-3)),
    HEIGHT - BOTTOM - RADIUS - 4,
    TOP + RADIUS + 4,
    Math.log,
  );
  const text = (x, y, anchor, words) => svg("text", { x, y, "text-anchor": anchor }, words);
  const sizes = found.map((way) => way.bytes);
  const seconds = found.map((way) => way.seconds);
  const label = found.map((way) => `${way.letter}: ${words(way)}, ${bytes(way.bytes)}, ${duration(way.seconds)} a step`);
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Memory and time. ${label.join("; ")}` },
    svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
    ends(sizes).map((size) => text(across(size), HEIGHT - BOTTOM + 14, "middle", bytes(size))),
    ends(seconds).map((time) => text(LEFT - 5, up(Math.max(time, 1e-3)) + 4, "end", duration(time))),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "middle", "memory of the whole process"),
    svg("text", { transform: `translate(11 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, "time of a step"),
    apart(found.map((way) => ({ way, x: across(way.bytes), y: up(Math.max(way.seconds, 1e-3)) }))).map(mark),
  );
}

/** A letter in a circle: filled where the way fits, with a broken outline where it does not. */
function mark({ way, x, y }) {
  const kind = way.method === "exact" ? "c1" : way.method === "hybrid" ? "c2" : "c3";
  return svg(
    "g",
    { class: way.fits ? "way" : "way unfit", style: { color: `var(--${kind})` } },
    svg("circle", { cx: x, cy: y, r: RADIUS }),
    svg("text", { x, y: y + 4, "text-anchor": "middle" }, way.letter),
  );
}

/** Moves circles that would cover each other to the side. */
function apart(points) {
  const placed = [];
  for (const point of points) {
    while (placed.some((other) => Math.hypot(other.x - point.x, other.y - point.y) < 2 * RADIUS)) point.x += 2;
    placed.push(point);
  }
  return placed;
}

function table(found) {
  const cells = ["", "Way", "Memory", "A step"];
  const line = (way) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, way.letter),
      h("td", {}, `${way.method}, ${way.memory}`, detail(way) && h("div", { class: "muted" }, detail(way))),
      h("td", { class: way.fits ? "num" : "num bad" }, bytes(way.bytes), way.fits ? null : h("div", {}, "does not fit")),
      h("td", { class: "num" }, duration(way.seconds)),
    );
  return h(
    "table",
    { class: "parts small" },
    h("thead", {}, h("tr", {}, cells.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, found.map(line)),
  );
}

function detail(way) {
  const exact = way.method === "hybrid" ? count(way.exact_layers, "exact layer") : "";
  return [exact, way.kept].filter(Boolean).join(", ");
}

function words(way) {
  return `${way.method}, memory ${way.memory}${way.fits ? "" : ", does not fit"}`;
}

/** The smallest and the largest of some values; one value if they are alike. */
function ends(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return high > 1.02 * low ? [low, high] : [low];
}

/** Maps values onto a line from `first` to `last`. */
function scale(values, first, last, by) {
  const [low, high] = [by(Math.min(...values)), by(Math.max(...values))];
  return (value) => (high === low ? (first + last) / 2 : first + ((last - first) * (by(value) - low)) / (high - low));
}
