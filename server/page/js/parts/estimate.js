/** The estimate of memory and time in the start form, updated while the form is filled in. */

import { post } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, duration, whole } from "../format.js";
import { announce } from "../messages.js";

// After the last change of the form.
const WAIT_MS = 450;
const COLORS = ["c1", "c2", "c3", "c4", "c5", "c6"];

/**
 * Creates the panel with the estimate. It enables the start button once the server has accepted the settings.
 * @param {{signal: AbortSignal, start: HTMLButtonElement, checked: (problem: Object|null) => void}} options `checked`
 *   is called with the server's error, or with null if the form has none.
 * @returns {{element: HTMLElement, ask: (body: Object) => void}}
 */
export function estimatePanel({ signal, start, checked }) {
  const element = h("div", { class: "stack estimate", "aria-busy": "true" });
  let timer = 0;
  let request = null;
  let asked = "";

  async function update(body) {
    request?.abort();
    request = new AbortController();
    const own = request;
    try {
      const found = await post("/estimate", body, { signal: own.signal });
      if (signal.aborted) return;
      checked(null);
      replace(element, content(found));
      announce(
        `Estimate: ${bytes(found.memory.total)} of memory, about ${duration(found.seconds)}. ${found.fits ? "It fits." : "It does not fit."}`,
      );
      start.disabled = false;
    } catch (problem) {
      if (problem.name === "AbortError" || signal.aborted) return;
      checked(problem);
      replace(
        element,
        h(
          "p",
          { class: "muted" },
          problem.status === 422 ? "The estimate appears once the form has no errors." : problem.message,
        ),
      );
      // Errors other than 422 do not concern the form: the job can be submitted, and the server checks it again.
      start.disabled = problem.status === 422;
    } finally {
      if (own === request) element.setAttribute("aria-busy", "false");
    }
  }

  function ask(body) {
    if (JSON.stringify(body) === asked) return;
    asked = JSON.stringify(body);
    start.disabled = true;
    element.setAttribute("aria-busy", "true");
    if (!element.firstChild) replace(element, h("p", { class: "muted" }, "Estimating memory and time…"));
    clearTimeout(timer);
    timer = setTimeout(() => update(body), WAIT_MS);
  }
  signal.addEventListener("abort", () => (clearTimeout(timer), request?.abort()));
  return { element, ask };
}

function content(found) {
  const parts = Object.entries(found.memory.parts)
    .filter(([, size]) => size > 0)
    .sort((a, b) => b[1] - a[1]);
  const bar = h(
    "div",
    {
      class: "memory",
      role: "img",
      "aria-label": `Memory by use: ${parts.map(([name, size]) => `${name} ${bytes(size)}`).join(", ")}`,
    },
    parts.map(([, size], index) =>
      h("span", {
        style: {
          width: `${(100 * size) / found.memory.total}%`,
          background: `var(--${COLORS[index % COLORS.length]})`,
        },
      }),
    ),
  );
  const line = ([name, size], index) =>
    h(
      "tr",
      {},
      h(
        "td",
        {},
        h("i", { class: "swatch", style: { background: `var(--${COLORS[index % COLORS.length]})` } }),
        name.replaceAll("_", " "),
      ),
      h("td", { class: "num" }, bytes(size)),
    );
  const seconds = found.seconds;
  return [
    h(
      "div",
      { class: "pair" },
      h(
        "div",
        {},
        h("p", { class: "muted small" }, "Memory"),
        h("p", { class: "big" }, bytes(found.memory.total)),
        h(
          "p",
          { class: "small" },
          found.fits
            ? `fits: ${bytes(found.free)} available`
            : h("b", { class: "bad" }, `does not fit: only ${bytes(found.free)} available`),
        ),
      ),
      h(
        "div",
        {},
        h("p", { class: "muted small" }, "Time"),
        h(
          "p",
          { class: "big" },
          seconds === null || seconds === undefined ? "not known yet" : `about ${duration(rounded(seconds))}`,
        ),
        h("p", { class: "small muted" }, `${whole(found.forwards)} forward passes`),
      ),
    ),
    bar,
    h(
      "details",
      { class: "small" },
      h("summary", {}, "Memory in detail"),
      h("table", { class: "parts" }, h("tbody", {}, parts.map(line))),
    ),
    found.ways && ways(found.ways),
    found.rows &&
      h(
        "p",
        { class: "small muted" },
        `${count(found.rows.train, "training row")}, ${count(found.rows.validation, "validation row")}.`,
      ),
    (found.warnings ?? []).map((text) => h("div", { class: "problem warn small" }, text)),
    found.advice &&
      h(
        "details",
        { class: "small" },
        h("summary", {}, "Compared with back-propagation"),
        h("p", { class: "muted" }, found.advice),
      ),
  ];
}

/** The same job with forward passes only, hybrid, and with exact gradients, side by side. */
function ways(found) {
  const cells = ["Method", "Layers with exact gradients", "Memory setting", "Whole process", "A step"];
  const line = (way) =>
    h(
      "tr",
      {},
      h("td", {}, way.method),
      h("td", { class: "num" }, way.exact_layers),
      h("td", {}, way.memory),
      h("td", { class: way.fits ? "num" : "num bad" }, bytes(way.bytes)),
      h("td", { class: "num" }, duration(way.seconds)),
    );
  return h(
    "details",
    { class: "small" },
    h("summary", {}, "Other ways to run this job"),
    h(
      "table",
      { class: "parts" },
      h("thead", {}, h("tr", {}, cells.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, found.map(line)),
    ),
  );
}

/** Rounds long times more coarsely: an estimate is not exact to the second. */
function rounded(seconds) {
  const unit = seconds < 60 ? 1 : seconds < 300 ? 10 : seconds < 7200 ? 60 : 600;
  return Math.max(1, Math.round(seconds / unit) * unit);
}
