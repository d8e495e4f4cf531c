/** The curves of one job, all over the same axis and with one cursor; the checks also as a table. */

import { chart, joined } from "../chart.js";
import { h, replace } from "../dom.js";
import { percent, plain, whole, wholePercent } from "../format.js";
import { AXES, smooth } from "../series.js";
import { METHODS, score } from "../words.js";

const NAMES = ["accuracy", "f1", "exact_match", "score", "balanced_accuracy"];

/**
 * The charts of a job.
 * @param {Object} job
 * @returns {{element: HTMLElement, draw: (series: import("../series.js").Series, axis: string) => void}}
 */
export function jobCharts(job) {
  const sync = `job-${job.id}`;
  const method = job.profile.method;
  const pool = METHODS[method.kind]?.pool ? method.pool : 2;
  const loss = chart({
    title: "Loss",
    large: true,
    height: 250,
    sync,
    nothing: "The first step is still to come. Before it, the probe radius and the learning rate are found.",
    lines: [
      { label: "each step", color: "c1", width: 1, faint: true },
      { label: "training", color: "c1" },
      { label: "validation", color: "c2", points: true },
    ],
  });
  const quality = chart({
    title: "Validation",
    large: true,
    height: 250,
    sync,
    range: [0, 1],
    nothing: "No check has been made yet, or these rows are judged by their loss alone.",
    lines: [
      { label: "score", color: "c2", points: true, format: percent, tick: wholePercent },
      { label: "balanced", color: "c3", dash: [5, 4], format: percent },
    ],
  });
  const spread = chart({
    title: "Spread of the pool",
    sync,
    nothing: method.pool ? "No step yet." : "This method has no pool of candidates.",
    lines: [
      { label: "each step", color: "c3", width: 1, faint: true },
      { label: "std. of losses", color: "c3" },
    ],
  });
  const slope = chart({
    title: "Slope",
    sync,
    lines: [
      { label: "each step", color: "c4", width: 1, faint: true },
      { label: "along the step", color: "c4" },
    ],
  });
  const size = chart({
    title: "Step size",
    sync,
    range: fromZero,
    lines: [{ label: "learning rate", color: "c6" }],
  });
  const lost = chart({
    title: "Candidates",
    sync,
    nothing: "No step yet.",
    lines: [
      { label: "accepted", color: "c1", format: whole },
      { label: "dropped", color: "c2", format: whole },
    ],
  });
  const body = h("tbody");
  const heads = ["Step", "Forward passes", "Loss", "Result", "Best so far"].map((text, index) =>
    h("th", { scope: "col", class: index < 4 ? "num" : "" }, text),
  );
  const table = h(
    "details",
    { class: "card whole" },
    h("summary", {}, "Every check as a table"),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)),
  );
  loss.element.classList.add("large");
  quality.element.classList.add("beside");
  const element = h(
    "div",
    { class: "charts" },
    loss.element,
    quality.element,
    spread.element,
    slope.element,
    size.element,
    lost.element,
    table,
  );
  let listed = "";

  function draw(series, axis) {
    const over = AXES[axis];
    const [x, losses] = series.table(axis, "loss");
    loss.draw(
      joined(
        [x, losses, smooth(losses)],
        series.evalTable(axis, (one) => one.loss),
      ),
      over,
    );
    quality.draw(
      series.evalTable(
        axis,
        (one) => metricOf(one, NAMES),
        (one) => (one.metrics?.accuracy === undefined ? null : metricOf(one, ["balanced_accuracy"])),
      ),
      over,
    );
    const [, spreads, slopes, rates, gone] = series.table(axis, "spread", "slope", "learning_rate", "lost");
    spread.draw([x, spreads, smooth(spreads)], over);
    slope.draw([x, slopes, smooth(slopes)], over);
    size.draw([x, rates], over);
    const tried = series.columns.step.map((step) => (step + 1) * pool);
    lost.draw([x, tried.map((all, index) => all - gone[index]), gone], over);
    tabulate(series);
  }

  function tabulate(series) {
    const all = [...series.evals.values()].sort((a, b) => a.step - b.step);
    const now = all.map((one) => one.step).join();
    if (now === listed) return;
    listed = now;
    const row = (one) => {
      const found = score(one.metrics ?? one);
      const cells = [
        whole(one.step),
        whole(Math.round(series.place("forwards", one.step))),
        plain(one.loss),
        found ? `${percent(found.value)} ${found.name}` : "–",
      ];
      return h(
        "tr",
        {},
        cells.map((text) => h("td", { class: "num" }, text)),
        h("td", {}, one.best ? "yes" : ""),
      );
    };
    replace(body, all.map(row));
  }

  return { element, draw };
}

function metricOf(one, names) {
  for (const name of names) {
    const value = one.metrics?.[name] ?? one[name];
    if (typeof value === "number") return value;
  }
  return null;
}

/** A rate that falls by a hundredth should not look as if it fell to nothing. */
function fromZero(_, __, most) {
  return [0, 1.05 * most];
}
