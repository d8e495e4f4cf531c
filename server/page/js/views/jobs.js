/** The view of all jobs: state, progress and actions of each. */

import { get } from "../api.js";
import { h, replace, setText } from "../dom.js";
import { FINAL } from "../follow.js";
import { duration, moment, percent, plain } from "../format.js";
import { icon } from "../icons.js";
import { announce } from "../messages.js";
import { actionsOf } from "../parts/actions.js";
import { badge, problemBox, head, meter, setMeter } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { score, speed, stateOf, stepsOf } from "../words.js";
import { firstSteps } from "./welcome.js";

const PAGE_SIZE = 50;
// Between two updates: with a running job, and without.
const RUNNING_MS = 1500;
const IDLE_MS = 5000;

/** @param {{place: HTMLElement, signal: AbortSignal}} context */
export function showJobs({ place, signal }) {
  const body = h("div", { class: "stack" });
  const compare = h("a", { class: "button", hidden: true }, "Compare");
  const start = h("a", { class: "button main", href: "#/start", hidden: true }, icon("plus", 16), "New job");
  place.append(
    head("Jobs", {
      about: "Each job trains an adapter for the base model on your rows.",
      actions: [compare, start],
    }),
    body,
  );
  const chosen = new Set();
  const rows = new Map();
  let limit = PAGE_SIZE;
  let table = null;

  const choose = (id, is) => {
    if (is) chosen.add(id);
    else chosen.delete(id);
    compare.hidden = chosen.size < 2;
    compare.href = `#/compare?jobs=${[...chosen].join(",")}`;
    setText(compare, `Compare ${chosen.size}`);
  };
  const update = async () => {
    try {
      const { jobs } = await get(`/jobs?limit=${limit}`, { signal });
      start.hidden = jobs.length === 0;
      if (jobs.length === 0) {
        table = null;
        await firstSteps(body, signal);
        return IDLE_MS;
      }
      if (table === null) {
        table = frame(() => ((limit += PAGE_SIZE), again()));
        rows.clear();
        replace(body, table.element);
      }
      table.more.hidden = jobs.length < limit;
      updateRows(table.body, rows, jobs, (job) => makeRow(job, choose, again));
      return jobs.some((job) => job.state === "running") ? RUNNING_MS : IDLE_MS;
    } catch (error) {
      if (error.name !== "AbortError") {
        table = null;
        replace(body, problemBox(error));
      }
      return IDLE_MS;
    }
  };
  const again = poll(update, IDLE_MS, signal);
}

function frame(older) {
  const heads = [
    ["", "pick"],
    ["Job"],
    ["State"],
    ["Progress"],
    ["Speed", "num"],
    ["Time left", "num"],
    ["Loss", "num"],
    ["Score", "num"],
    ["", "acts"],
  ];
  const named = { pick: "Compare", acts: "Actions" };
  const cell = ([text, kind = ""]) =>
    h("th", { scope: "col", class: kind }, text || h("span", { class: "visually-hidden" }, named[kind]));
  const body = h("tbody");
  const more = h("button", { class: "button", type: "button", onClick: older, hidden: true }, "Show older jobs");
  const table = h("table", { class: "jobs" }, h("thead", {}, h("tr", {}, heads.map(cell))), body);
  return { body, more, element: h("div", { class: "stack" }, h("div", { class: "card flush" }, table), more) };
}

/** Adds, removes and updates rows. An existing row is updated in place, so that the keyboard focus stays in it. */
function updateRows(body, rows, jobs, make) {
  const ids = new Set(jobs.map((job) => job.id));
  for (const [id, row] of rows) {
    if (!ids.has(id)) {
      row.element.remove();
      rows.delete(id);
    }
  }
  jobs.forEach((job, index) => {
    const row = rows.get(job.id) ?? make(job);
    rows.set(job.id, row);
    row.update(job);
    if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null);
  });
}

function makeRow(first, choose, again) {
  const state = h("td", { class: "state-cell" });
  const bar = meter(0, `Progress of ${first.name}`);
  const steps = h("span", { class: "small muted" });
  const why = h("p", { class: "small muted" });
  const [pace, left, loss, result] = ["Speed", "Time left", "Loss", "Score"].map((label) =>
    h("td", { class: "num", data: { label } }),
  );
  const acts = actionsOf(first, { changed: again });
  const pick = h("input", {
    type: "checkbox",
    "aria-label": `Compare ${first.name}`,
    onChange: () => choose(first.id, pick.checked),
  });
  const sweep = first.sweep && [" · ", h("a", { href: `#/sweeps/${first.sweep}` }, "sweep")];
  const about = h("p", { class: "small muted" }, `${first.profile.name} · ${moment(first.created)}`, sweep);
  const element = h(
    "tr",
    { class: "choose", data: { job: first.id } },
    h("td", { class: "pick" }, pick),
    h("td", { class: "title" }, h("a", { class: "name", href: `#/jobs/${first.id}` }, first.name), about),
    state,
    h("td", { class: "progress" }, bar, h("div", { class: "row wide" }, steps), why),
    pace,
    left,
    loss,
    result,
    h("td", { class: "acts" }, acts.element),
  );
  const value = h("div");
  const what = h("div", { class: "small muted" });
  result.append(h("div", {}, value, what));
  let before = null;
  const update = (job) => {
    const now = `${job.state} ${job.requested}`;
    if (now !== before) {
      if (before !== null) announce(`${job.name}: ${stateOf(job)}`);
      replace(state, badge(job));
      before = now;
    }
    setMeter(bar, job.steps ? job.step / job.steps : 0, job.state);
    setText(steps, stepsOf(job.step, job.steps));
    setText(why, reason(job));
    why.hidden = !why.textContent;
    const rate = speed(job);
    setText(pace, rate === null ? "–" : `${plain(rate, 1)} steps/s`);
    setText(left, FINAL.has(job.state) || job.state === "paused" ? "–" : duration(job.seconds_left));
    setText(loss, plain(job.loss));
    const found = score(job.metrics);
    setText(value, found === null ? plain(job.metrics.loss) : percent(found.value));
    setText(what, found === null ? (job.metrics.loss === undefined ? "" : "validation loss") : found.name);
    acts.update(job);
  };
  return { element, update };
}

function reason(job) {
  if (job.state === "failed") return job.error?.detail ?? "";
  if (job.state === "queued") return `Waiting for ${job.waiting_for}`;
  return "";
}
