/** The form that tries several values of a job's settings: one job for each combination, and one table of all. */

import { get, post } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, duration } from "../format.js";
import { announce } from "../messages.js";
import { field, select } from "../parts/field.js";
import { head, problemBox } from "../parts/pieces.js";

const SETTINGS = [
  ["rule.learning_rate", "Learning rate"],
  ["method.pool", "Candidates a step"],
  ["method.epsilon", "Probe radius"],
  ["method.kind", "Method"],
  ["subset.rank", "Rank"],
  ["subset.last_layers", "Last layers trained"],
  ["batch.examples", "Rows a step"],
];
const ROWS = 3;
const WAIT_MS = 400;

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showTry({ place, signal, query }) {
  const trail = ["#/jobs", "Jobs"];
  try {
    const job = await get(`/jobs/${encodeURIComponent(query.get("job") ?? "")}`, { signal });
    if (!signal.aborted) replace(place, head("Try several settings", { trail, about: about(job) }), form(job, signal));
  } catch (error) {
    if (error.name !== "AbortError") replace(place, head("Try several settings", { trail }), problemBox(error));
  }
}

function about(job) {
  return `Jobs with the rows and settings of ${job.name}, except for the values below. All combinations are run, one after the other.`;
}

function form(job, signal) {
  const rows = Array.from({ length: ROWS }, (_, index) => {
    const [key] = SETTINGS[index];
    const setting = field(`Setting ${index + 1}`, select(SETTINGS, key));
    const values = field(
      `Values of setting ${index + 1}`,
      h("input", { autocomplete: "off", spellcheck: "false", placeholder: index === 0 ? "0.005, 0.01, 0.02" : "leave empty" }),
      { hint: "Separated by commas." },
    );
    return { setting, values, element: h("div", { class: "grid2" }, setting.element, values.element) };
  });
  const number = (max) => h("input", { type: "number", min: 1, max, step: 1, inputmode: "numeric" });
  const steps = field("Most steps of a job", number(10_000_000), { hint: `The job has ${job.steps}.` });
  const seconds = field("Most seconds of a job", number(1e7), { hint: "A job that reaches them is evaluated and ends." });
  const name = field("Name", h("input", { maxlength: 90, placeholder: "sweep-…", autocomplete: "off" }));
  const plan = h("p", { role: "status" }, "Enter the values to try.");
  const problems = h("div");
  const start = h("button", { class: "button main", type: "submit", disabled: true }, "Start the jobs");

  function read() {
    const grid = {};
    for (const { setting, values } of rows) {
      const found = values.control.value.split(",").map((text) => text.trim()).filter(Boolean);
      if (found.length > 0) grid[setting.control.value] = found.map(scalar);
    }
    const sent = { dataset: job.dataset, profile: job.profile, seed: job.seed, grid };
    if (job.validation) sent.validation = job.validation;
    if (job.task) sent.task = job.task;
    if (steps.control.value) sent.most_steps = Number(steps.control.value);
    if (seconds.control.value) sent.most_seconds = Number(seconds.control.value);
    if (name.control.value.trim()) sent.name = name.control.value.trim();
    return sent;
  }

  let timer = 0;
  let asked = 0;
  async function ask() {
    const turn = ++asked;
    const sent = read();
    start.disabled = true;
    replace(problems);
    if (Object.keys(sent.grid).length === 0) {
      plan.textContent = "Enter the values to try.";
      return;
    }
    try {
      const found = await post("/sweeps/plan", sent, { signal });
      if (turn !== asked) return;
      const tight = found.runs.some((run) => !run.fits) ? " At least one of them needs more memory than is free." : "";
      plan.textContent = `${count(found.count, "job")}, about ${duration(found.seconds)} in all, at most ${bytes(found.bytes)} of memory.${tight}`;
      start.textContent = `Start ${count(found.count, "job")}`;
      start.disabled = false;
    } catch (problem) {
      if (problem.name === "AbortError" || turn !== asked) return;
      plan.textContent = "";
      replace(problems, problemBox(problem));
    }
  }

  async function submit(event) {
    event.preventDefault();
    if (start.disabled) return;
    start.disabled = true;
    try {
      const sweep = await post("/sweeps", read());
      announce(`Started ${count(sweep.count, "job")}.`);
      location.hash = `#/sweeps/${sweep.id}`;
    } catch (problem) {
      replace(problems, problemBox(problem));
      start.disabled = false;
    }
  }

  const element = h(
    "form",
    { class: "card stack", novalidate: true, onSubmit: submit },
    rows.map((row) => row.element),
    h("div", { class: "grid2" }, steps.element, seconds.element),
    name.element,
    plan,
    problems,
    h("div", { class: "row" }, start),
  );
  element.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  return element;
}

function scalar(text) {
  if (text === "null") return null;
  return Number.isFinite(Number(text)) ? Number(text) : text;
}
