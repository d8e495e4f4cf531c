/** What a job will need, asked of the server while the form is filled in. */

import { post } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, duration, whole } from "../format.js";
import { announce } from "../notes.js";

const REST_MS = 450;
const COLORS = ["c1", "c2", "c3", "c4", "c5", "c6"];

/**
 * The panel with the estimate; it turns the start button on.
 * @param {{signal: AbortSignal, start: HTMLButtonElement, told: (problem: Object|null) => void}} options `told` hears
 *   of what is wrong with the form, and with null that nothing is.
 * @returns {{element: HTMLElement, ask: (body: Object) => void}}
 */
export function estimatePanel({ signal, start, told }) {
  const element = h("div", { class: "stack estimate", "aria-busy": "true" });
  let timer = 0;
  let under = null;
  let words = "";

  async function look(body) {
    under?.abort();
    under = new AbortController();
    const own = under;
    try {
      const found = await post("/estimate", body, { signal: own.signal });
      if (signal.aborted) return;
      told(null);
      replace(element, shown(found));
      announce(
        `Estimate: ${bytes(found.memory.total)} of memory, about ${duration(found.seconds)}. ${found.fits ? "It fits." : "It does not fit."}`,
      );
      start.disabled = false;
    } catch (problem) {
      if (problem.name === "AbortError" || signal.aborted) return;
      told(problem);
      replace(
        element,
        h(
          "p",
          { class: "muted" },
          problem.status === 422 ? "The estimate comes when the form is right." : problem.message,
        ),
      );
      // What cannot be estimated now may still be possible: the server looks at everything again.
      start.disabled = problem.status === 422;
    } finally {
      if (own === under) element.setAttribute("aria-busy", "false");
    }
  }

  function ask(body) {
    const { name, ...rest } = body;
    if (JSON.stringify(body) === words) return;
    words = JSON.stringify(body);
    start.disabled = true;
    element.setAttribute("aria-busy", "true");
    if (!element.firstChild) replace(element, h("p", { class: "muted" }, "Estimating memory and time…"));
    clearTimeout(timer);
    timer = setTimeout(() => look(name ? { name, ...rest } : rest), REST_MS);
  }
  signal.addEventListener("abort", () => (clearTimeout(timer), under?.abort()));
  return { element, ask };
}

function shown(found) {
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
            ? `fits: ${bytes(found.free)} may be used`
            : h("b", { class: "bad" }, `does not fit: only ${bytes(found.free)} may be used`),
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
      h("summary", {}, "Where the memory goes"),
      h("table", { class: "parts" }, h("tbody", {}, parts.map(line))),
    ),
    found.rows &&
      h(
        "p",
        { class: "small muted" },
        `${count(found.rows.train, "row")} to learn from, ${whole(found.rows.validation)} to be judged by.`,
      ),
    (found.warnings ?? []).map((text) => h("div", { class: "faults warn small" }, text)),
    found.advice &&
      h(
        "details",
        { class: "small" },
        h("summary", {}, "Is this the right method here?"),
        h("p", { class: "muted" }, found.advice),
      ),
  ];
}

/** An estimate of minutes is not one of seconds. */
function rounded(seconds) {
  const unit = seconds < 60 ? 1 : seconds < 300 ? 10 : seconds < 7200 ? 60 : 600;
  return Math.max(1, Math.round(seconds / unit) * unit);
}
