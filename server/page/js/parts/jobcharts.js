/** The charts of one job, with a shared axis and a shared cursor; its evaluations also as a table. */

import { chart, joined } from "../chart.js";
import { h, replace } from "../dom.js";
import { percent, plain, whole, wholePercent } from "../format.js";
import { AXES, smooth } from "../series.js";
import { SCORES, score } from "../words.js";

/**
 * The charts of a job.
 * @param {Object} job
 * @param {number|null} forwards Forward passes of one step.
 * @returns {{element: HTMLElement, draw: (series: import("../series.js").Series, axis: string) => void}}
 */
export function jobCharts(job, forwards) {
  const sync = `job-${job.id}`;
  const method = job.profile.method;
  const tries = method.pool ?? forwards ?? 0;
  const loss = chart({
    title: "Loss",
    large: true,
    height: 250,
    sync,
    nothing: "No step yet. If they are set to auto, the probe radius and the learning rate are found before the first step.",
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
    nothing: "No evaluation yet, or this job has no score besides the loss.",
    lines: [
      { label: "score", color: "c2", points: true, format: percent, tick: wholePercent },
      { label: "balanced", color: "c3", dash: [5, 4], format: percent },
    ],
  });
  const spread = chart({
    title: "Spread of the candidates",
    sync,
    nothing: method.pool ? "No step yet." : "This method does not try several candidates a step.",
    lines: [
      { label: "each step", color: "c3", width: 1, faint: true },
      { label: "std. of their losses", color: "c3" },
    ],
  });
  const slope = chart({
    title: "Slope",
    sync,
    lines: [
      { label: "each step", color: "c4", width: 1, faint: true },
      { label: "smoothed", color: "c4" },
    ],
  });
  const size = chart({
    title: "Learning rate",
    sync,
    range: fromZero,
    lines: [{ label: "each step", color: "c6" }],
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
  const heads = ["Step", "Forward passes", "Loss", "Score", "Best so far"].map((text, index) =>
    h("th", { scope: "col", class: index < 4 ? "num" : "" }, text),
  );
  const table = h(
    "details",
    { class: "card whole" },
    h("summary", {}, "All evaluations as a table"),
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
        (one) => metricOf(one, SCORES),
        (one) => (one.metrics?.accuracy === undefined ? null : metricOf(one, ["balanced_accuracy"])),
      ),
      over,
    );
    const [, spreads, slopes, rates, gone] = series.table(axis, "spread", "slope", "learning_rate", "lost");
    spread.draw([x, spreads, smooth(spreads)], over);
    slope.draw([x, slopes, smooth(slopes)], over);
    size.draw([x, rates], over);
    const tried = series.columns.step.map((step) => (step + 1) * tries);
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

/** An axis that begins at 0: otherwise a rate that falls by 1 % would look as if it fell to 0. */
function fromZero(_, __, most) {
  return [0, 1.05 * most];
}
