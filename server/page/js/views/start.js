/** The form that starts a job; what it will need is shown before it can be started. */

import { get, post } from "../api.js";
import { h, replace } from "../dom.js";
import { count } from "../format.js";
import { announce } from "../notes.js";
import { estimatePanel } from "../parts/estimate.js";
import { field, mending, select, tellFields } from "../parts/field.js";
import { empty, faults, head } from "../parts/pieces.js";
import { taskPart } from "../parts/task.js";
import { rememberTask, taskOf } from "../tasks.js";
import { METHODS, meaning } from "../words.js";

const AS_IS = "";

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showStart({ place, signal, query }) {
  place.append(head("New job", { about: "Choose the rows; everything else has a default that works.", trail: ["#/jobs", "Jobs"] }));
  const body = place.appendChild(h("div", {}, h("p", { class: "muted" }, "Looking at what there is…")));
  try {
    const [{ datasets }, { profiles }, system] = await Promise.all([get("/datasets", { signal }), get("/profiles", { signal }), get("/system", { signal })]);
    if (datasets.length === 0) {
      replace(body, h("div", { class: "card" }, empty("data", "There are no rows to learn from yet", "Upload a file first: JSON lines, JSON, CSV or Parquet.", h("a", { class: "button main", href: "#/data" }, "Go to Data"))));
      return;
    }
    replace(body, form({ datasets, profiles, system, signal, wanted: query.get("dataset") }));
  } catch (error) {
    if (error.name !== "AbortError") replace(body, faults(error));
  }
}

function form({ datasets, profiles, system, signal, wanted }) {
  const named = (one) => [one.id, `${one.name} (${count(one.rows, "row")}, ${one.format})`];
  const first = datasets.some((one) => one.id === wanted) ? wanted : datasets[0].id;
  const dataset = field("Dataset", select(datasets.map(named), first), { key: "dataset" });
  const validation = field("Judged by", select([[AS_IS, ""], ...datasets.map(named)], AS_IS), { key: "validation", hint: "Rows that are never learned; they say how good the adapter is." });
  const profile = field("Profile", select(profiles.map((one) => [one.name, one.name]), "cpu-demo"), { key: "profile" });
  const method = field("Method", select([[AS_IS, ""], ...Object.entries(METHODS).map(([kind, one]) => [kind, one.name])], AS_IS), { key: "kind" });
  const pool = field("Candidates a step", number(2, 256), { key: "pool", hint: "More of them: steadier, slower steps." });
  const steps = field("Steps", number(1, 10_000_000), { key: "steps", hint: "A run can be paused, and ended early: it keeps what it has." });
  const name = field("Name", h("input", { maxlength: 100, placeholder: "job-…", autocomplete: "off", spellcheck: "false" }), { key: "name", hint: "Of the job and its adapter. Left empty, the server makes one." });
  const seed = field("Seed", number(0, Number.MAX_SAFE_INTEGER, 0), { key: "seed", hint: "The same seed makes the same adapter." });
  const rows = field("Rows a step", number(1, 4096), { key: "examples" });
  const longest = field("Longest row, tokens", number(8, 131_072), { key: "max_tokens" });
  const every = field("Steps between checks", number(1, 10_000_000), { key: "every" });
  const rate = field("Learning rate", h("input", { inputmode: "decimal", autocomplete: "off" }), { key: "learning_rate", hint: "auto finds it; 0.5 * auto takes half of that." });
  const task = taskPart();
  const fields = [name, dataset, validation, profile, method, pool, steps, seed, rows, longest, every, rate, ...task.fields];

  const words = h("dl", { class: "facts" });
  const about = h("p", {});
  const start = h("button", { class: "button main", type: "submit", disabled: true }, "Start the job");
  const wrong = h("div");
  const panel = estimatePanel({ signal, start, told: (problem) => tell(problem) });
  const chosen = () => profiles.find((one) => one.name === profile.control.value);

  function explain() {
    const one = chosen();
    about.textContent = one.description;
    const changed = { ...one, method: { ...one.method, ...(method.control.value ? { kind: method.control.value } : {}) } };
    replace(words, meaning(changed).map(([word, text]) => [h("dt", {}, word), h("dd", {}, text)]));
    method.control.options[0].textContent = `as in the profile: ${METHODS[one.method.kind].name}`;
    [...validation.control.options].forEach((option) => (option.disabled = option.value !== AS_IS && option.value === dataset.control.value));
    if (validation.control.value === dataset.control.value) validation.control.value = AS_IS;
    validation.control.options[0].textContent = one.evaluate.holdout > 0 ? `${Math.round(one.evaluate.holdout * 100)} % of these rows, set aside` : "nothing";
    pool.control.placeholder = one.method.pool ?? "–";
    pool.element.hidden = !METHODS[method.control.value || one.method.kind].pool;
    steps.control.placeholder = one.steps;
    rows.control.placeholder = one.batch.examples;
    longest.control.placeholder = one.batch.max_tokens;
    every.control.placeholder = one.evaluate.every;
    rate.control.placeholder = one.rule.learning_rate;
  }

  function read() {
    const overrides = {};
    const put = (path, one) => {
      if (!one.element.hidden && one.control.value.trim() !== "") overrides[path] = one === method || one === rate ? scalar(one.control.value.trim()) : Number(one.control.value);
    };
    put("method.kind", method);
    put("method.pool", pool);
    put("steps", steps);
    put("batch.examples", rows);
    put("batch.max_tokens", longest);
    put("evaluate.every", every);
    put("rule.learning_rate", rate);
    const sent = { dataset: dataset.control.value, profile: profile.control.value, overrides, seed: Number(seed.control.value || 0) };
    if (validation.control.value) sent.validation = validation.control.value;
    if (name.control.value.trim()) sent.name = name.control.value.trim();
    const put_ = task.read();
    return put_ === null ? sent : { ...sent, task: put_ };
  }

  function tell(problem) {
    if (problem === null) {
      fields.forEach((one) => one.wrong(""));
      replace(wrong);
      return;
    }
    const left = problem.code === "invalid-task" && problem.errors.length === 0 && task.isShown() ? (task.fields[0].wrong(problem.message), []) : tellFields(fields, problem.errors);
    const isTold = problem.errors.length > 0 && left.length === 0;
    replace(wrong, !isTold && !(problem.code === "invalid-task" && task.isShown()) && faults(left.length ? { ...problem, message: left.map(mending).join(" "), hint: "", errors: [] } : problem));
    if (problem.code === "conflict" && name.control.value) name.wrong(`${problem.message}. ${problem.hint}`);
  }

  const changed = () => {
    explain();
    panel.ask(read());
  };
  const changedRows = async () => {
    const one = datasets.find((row) => row.id === dataset.control.value);
    await task.show(one, one.format === "classification" ? await taskOf(one.id) : null);
    changed();
  };
  let sending = null;

  async function submit(event) {
    event.preventDefault();
    if (start.disabled) return;
    const sent = read();
    const words = JSON.stringify(sent);
    // The same words again after a broken connection are the same job; other words are another.
    if (sending?.words !== words) sending = { words, key: token() };
    start.disabled = true;
    try {
      const job = await post("/jobs", sent, { headers: { "Idempotency-Key": sending.key } });
      if (sent.task) rememberTask(sent.dataset, sent.task);
      announce(`Started ${job.name}.`);
      location.hash = `#/jobs/${job.id}`;
    } catch (problem) {
      tell(problem);
      start.disabled = false;
      (element.querySelector("[aria-invalid=true]") ?? start).focus();
    }
  }

  const base = system.base;
  const more = h("details", {}, h("summary", {}, "More settings"), h("div", { class: "grid2" }, pool.element, rate.element, rows.element, longest.element, every.element, seed.element));
  const left = h(
    "div",
    { class: "stack" },
    h("section", { class: "card stack" }, h("h2", {}, "What it learns from"), dataset.element, validation.element, task.element),
    h("section", { class: "card stack" }, h("h2", {}, "How it learns"), profile.element, h("div", { class: "meaning stack" }, about, words), h("div", { class: "grid2" }, method.element, steps.element), more),
    h("section", { class: "card stack" }, h("h2", {}, "What it is called"), name.element),
  );
  const summary = h("dl", { class: "facts" }, h("dt", {}, "Base"), h("dd", {}, base ? `${base.name} in ${base.quantization}` : "still loading"), h("dt", {}, "Runs on"), h("dd", {}, `${system.device.kind === "cuda" ? system.device.name : `CPU, ${count(system.device.threads, "thread")}`}`));
  const right = h("section", { class: "card stack before", "aria-label": "Before it starts" }, h("h2", {}, "Before it starts"), summary, panel.element, wrong, start);
  const element = h("form", { class: "start", novalidate: true, onSubmit: submit }, left, right);
  element.addEventListener("input", (event) => event.target !== dataset.control && changed());
  dataset.control.addEventListener("change", changedRows);
  changedRows().catch((error) => error.name !== "AbortError" && replace(wrong, faults(error)));
  return element;
}

function number(min, max, value = "") {
  return h("input", { type: "number", min, max, step: 1, value, inputmode: "numeric" });
}

function scalar(text) {
  return /^[0-9.eE+-]+$/.test(text) && Number.isFinite(Number(text)) ? Number(text) : text;
}

function token() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
