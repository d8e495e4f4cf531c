/** A chart: uPlot in the colours of the page, with current values and a description for screen readers. */

import { h, setText } from "./dom.js";
import { plain } from "./format.js";

const TIGHT = 760;
const charts = new Set();

/**
 * A line of a chart.
 * @typedef {{label: string, color: string, width?: number, faint?: boolean, points?: boolean, dash?: number[],
 *   format?: (value: number) => string, tick?: (value: number) => string}} Line `color` is the name
 *   of a CSS variable without the dashes: "c1"; `faint` lines are left out of the legend and the description; `tick`
 *   formats the values of the axis.
 */

/**
 * Creates an empty chart.
 * @param {{title: string, lines: Line[], height?: number, large?: boolean, sync?: string, nothing?: string,
 *   range?: any}} options `range` is uPlot's range of the y axis.
 * @returns {{element: HTMLElement, draw: (data: Array<ArrayLike<number|null>>, axis?: {name: string,
 *   format: (value: number) => string}) => void}}
 */
export function chart({
  title,
  lines,
  height = 150,
  large = false,
  sync,
  nothing = "No figures yet.",
  range = null,
}) {
  const values = lines.map(() => h("b", {}, "–"));
  const legend = lines.map(
    (line, index) =>
      !line.faint &&
      h("span", {}, h("i", { style: { background: `var(--${line.color})` } }), `${line.label} `, values[index]),
  );
  const canvas = h("div", { class: "canvas" });
  const blank = h("div", { class: "nothing" }, nothing);
  const caption = h("figcaption", {}, h(large ? "h2" : "h3", {}, title), h("span", { class: "legend" }, legend));
  const element = h("figure", { class: "chart card" }, caption, blank, canvas);
  let plot = null;
  let axis = { name: "step", format: String };
  let data = null;

  const showValues = (at) => {
    lines.forEach((line, index) => {
      const column = data[index + 1];
      const value = at === null ? lastOf(column) : nearest(column, at);
      setText(values[index], value === null ? "–" : (line.format ?? plain)(value));
    });
  };
  const make = () => {
    plot = new uPlot(
      options({ canvas, height, lines, sync, range, axis: () => axis, showValues: (u) => showValues(u.cursor.idx) }),
      data,
      canvas,
    );
    const watch = new ResizeObserver(
      () => canvas.clientWidth > 0 && plot.setSize({ width: canvas.clientWidth, height }),
    );
    watch.observe(canvas);
    charts.add({ plot, element });
  };

  const draw = (columns, newAxis) => {
    data = columns;
    axis = newAxis ?? axis;
    const has = columns.slice(1).some((column) => lastOf(column) !== null);
    blank.hidden = has;
    canvas.hidden = !has;
    if (!has) return;
    if (plot === null) make();
    else plot.setData(data);
    if (plot.cursor.idx === null || plot.cursor.left < 0) showValues(null);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", inWords(title, lines, data, axis));
  };
  return { element, draw };
}

/** Redraws all charts in the colours of the current theme; charts that were removed from the page are dropped. */
export function redrawCharts() {
  for (const one of charts) {
    if (one.element.isConnected) one.plot.redraw(false, true);
    else charts.delete(one);
  }
}

/**
 * Joins tables with different x values into one table for a chart.
 * @param {...Array<ArrayLike<number|null>>} tables Each [x, y, ...].
 * @returns {Array<ArrayLike<number|null>>}
 */
export function joined(...tables) {
  const filled = tables.map((table) => (table[0].length ? table : table.map(() => [])));
  return uPlot.join(filled);
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function options({ canvas, height, lines, sync, range, axis, showValues }) {
  const font = `11px ${color("font")}`;
  const grid = { stroke: () => color("grid"), width: 1 };
  const ticks = { show: false };
  const common = { stroke: () => color("muted"), font, grid, ticks };
  return {
    width: canvas.clientWidth || 300,
    height,
    padding: [10, 10, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: true, y: false },
      ...(sync ? { sync: { key: sync, setSeries: false } } : {}),
    },
    scales: { x: { time: false }, y: range ? { range } : {} },
    hooks: { setCursor: [showValues] },
    axes: [
      {
        ...common,
        size: 22,
        gap: 6,
        space: canvas.clientWidth < TIGHT ? 60 : 90,
        values: (_, splits) => splits.map((value) => axis().format(value)),
      },
      {
        ...common,
        size: 52,
        space: height < 200 ? 26 : 40,
        values: (_, splits) => splits.map((value) => (lines[0].tick ?? lines[0].format ?? brief)(value)),
      },
    ],
    series: [{}, ...lines.map(drawn)],
  };
}

function drawn(line) {
  return {
    label: line.label,
    stroke: () => color(line.color),
    width: line.width ?? 2,
    alpha: line.faint ? 0.28 : 1,
    dash: line.dash,
    spanGaps: true,
    points: line.points
      ? { show: true, size: 5, fill: () => color("surface"), stroke: () => color(line.color) }
      : { show: false },
  };
}

function brief(value) {
  return String(Number(value.toPrecision(4)));
}

function lastOf(column) {
  for (let index = column.length - 1; index >= 0; index -= 1)
    if (Number.isFinite(column[index])) return column[index];
  return null;
}

function firstOf(column) {
  for (let index = 0; index < column.length; index += 1) if (Number.isFinite(column[index])) return column[index];
  return null;
}

/** The last value up to an index: a line with few points has no value at most indexes. */
function nearest(column, at) {
  for (let index = at; index >= 0; index -= 1) if (Number.isFinite(column[index])) return column[index];
  return null;
}

/** The description for screen readers: first and last value of each line. */
function inWords(title, lines, data, axis) {
  const xs = data[0];
  const described = lines.flatMap((line, index) => {
    const column = data[index + 1];
    if (line.faint || lastOf(column) === null) return [];
    const format = line.format ?? plain;
    return [`${line.label}: first ${format(firstOf(column))}, last ${format(lastOf(column))}`];
  });
  return `${title}, up to ${axis.format(xs[xs.length - 1])} ${axis.name}. ${described.join("; ")}.`;
}
