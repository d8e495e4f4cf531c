/** The view of a sweep: its jobs in one table, the best first, updated while they run. */

import { get, post } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, duration, percent, plain, whole } from "../format.js";
import { asyncListener } from "../messages.js";
import { badge, head, meter, problemBox, setMeter } from "../parts/pieces.js";
import { poll } from "../polling.js";

const RUNNING_MS = 1500;
const ENDED_MS = 15_000;

/** @param {{place: HTMLElement, signal: AbortSignal, words: string[]}} context */
export function showSweep({ place, signal, words }) {
  const path = `/sweeps/${encodeURIComponent(words[0])}`;
  const trail = ["#/jobs", "Jobs"];
  const about = h("span");
  const bar = meter(0, "Progress of the sweep");
  const table = h("div", { class: "card flush scroll", tabindex: 0, role: "region", "aria-label": "Jobs of the sweep" });
  const best = h("p", { role: "status" });
  const again = () => update();
  const cancel = h(
    "button",
    { class: "button", type: "button", hidden: true, onClick: asyncListener(async () => (await post(`${path}/cancel`), again())) },
    "Cancel what has not ended",
  );
  let drawn = "";
  const update = poll(
    async () => {
      try {
        const sweep = await get(path, { signal });
        const text = JSON.stringify(sweep);
        if (drawn === "")
          replace(
            place,
            head(sweep.name, { trail, about: [about], actions: [cancel] }),
            h("div", { class: "stack" }, h("div", { class: "card stack" }, bar, best), table),
          );
        if (text !== drawn) draw(sweep);
        drawn = text;
        return sweep.state === "ended" ? ENDED_MS : RUNNING_MS;
      } catch (error) {
        if (error.name !== "AbortError" && drawn === "") replace(place, head("Sweep", { trail }), problemBox(error));
        return ENDED_MS;
      }
    },
    RUNNING_MS,
    signal,
  );

  function draw(sweep) {
    about.textContent = `${count(sweep.count, "job")}, ${whole(sweep.ended)} ended`;
    setMeter(bar, sweep.ended / sweep.count, sweep.state === "ended" ? "succeeded" : "running");
    cancel.hidden = sweep.state === "ended";
    replace(best, sweep.best ? bestOf(sweep) : "No job has succeeded yet.");
    replace(table, tableOf(sweep));
  }
}

function bestOf(sweep) {
  const { run, adapter, value } = sweep.best;
  return [
    "Best so far: ",
    h("a", { href: `#/jobs/${run}` }, adapter),
    value === null ? "" : `, ${sweep.metric.replaceAll("_", " ")} ${shown(sweep.metric, value)}`,
    " · ",
    h("a", { href: `#/playground?adapter=${run}` }, "try it"),
  ];
}

function tableOf(sweep) {
  const metric = sweep.metric.replaceAll("_", " ");
  const heads = ["Job", ...sweep.settings, "Training loss", metric, "Forwards", "Time", "Peak memory", "State"];
  const cell = (text, index) => h("th", { scope: "col", class: index > 0 && index < heads.length - 1 ? "num" : "" }, text);
  const num = (text) => h("td", { class: "num" }, text);
  const row = (run, index) =>
    h(
      "tr",
      {},
      h("td", {}, h("a", { class: "name", href: `#/jobs/${run.run}` }, run.adapter ?? `job ${index + 1}`)),
      sweep.settings.map((key) => num(String(run.settings[key] ?? "–"))),
      num(plain(run.loss)),
      num(shown(sweep.metric, run.value)),
      num(whole(run.forwards)),
      num(duration(run.seconds)),
      num(bytes(run.peak_bytes)),
      h("td", {}, badge({ state: run.state, requested: null }), run.error && h("p", { class: "small muted" }, run.error)),
    );
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, heads.map(cell))),
    h("tbody", {}, sweep.runs.map(row)),
  );
}

function shown(metric, value) {
  return metric === "validation_loss" ? plain(value) : percent(value);
}
