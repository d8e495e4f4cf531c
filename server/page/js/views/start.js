/** The form that starts a job, with an estimate of the memory and time that the job needs. */

import { get, post } from "../api.js";
import { h, replace } from "../dom.js";
import { count } from "../format.js";
import { announce } from "../messages.js";
import { loadMethods } from "../methods.js";
import { estimatePanel } from "../parts/estimate.js";
import { field, errorSentence, select, showErrors } from "../parts/field.js";
import { empty, problemBox, head } from "../parts/pieces.js";
import { settingsPart } from "../parts/settings.js";
import { taskPart } from "../parts/task.js";
import { rememberTask, taskOf } from "../tasks.js";

const HOLD_OUT = "";

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showStart({ place, signal, query }) {
  place.append(
    head("New job", {
      about: "Choose a dataset; everything else has a default.",
      trail: ["#/jobs", "Jobs"],
    }),
  );
  const body = place.appendChild(h("div", {}, h("p", { class: "muted" }, "Loading…")));
  try {
    const [{ datasets }, { profiles }, methods, system] = await Promise.all([
      get("/datasets", { signal }),
      get("/profiles", { signal }),
      loadMethods(),
      get("/system", { signal }),
    ]);
    if (datasets.length === 0) {
      replace(
        body,
        h(
          "div",
          { class: "card" },
          empty(
            "data",
            "There is no dataset yet",
            "Upload a file first: JSON lines, JSON, CSV, TSV or Parquet.",
            h("a", { class: "button main", href: "#/data" }, "Go to Data"),
          ),
        ),
      );
      return;
    }
    replace(body, form({ datasets, profiles, methods, system, signal, wanted: query.get("dataset") }));
  } catch (error) {
    if (error.name !== "AbortError") replace(body, problemBox(error));
  }
}

function form({ datasets, profiles, methods, system, signal, wanted }) {
  const named = (one) => [one.id, `${one.name} (${count(one.rows, "row")}, ${one.format})`];
  const first = datasets.some((one) => one.id === wanted) ? wanted : datasets[0].id;
  const dataset = field("Dataset", select(datasets.map(named), first), { key: "dataset" });
  const validation = field("Validation data", select([[HOLD_OUT, ""], ...datasets.map(named)], HOLD_OUT), {
    key: "validation",
    hint: "Rows that are not used for training; the adapter is evaluated on them.",
  });
  const name = field(
    "Name",
    h("input", { maxlength: 100, placeholder: "job-…", autocomplete: "off", spellcheck: "false" }),
    { key: "name", hint: "The name of the job and of its adapter. If left empty, the server chooses one." },
  );
  const task = taskPart();
  const settings = settingsPart(profiles, methods);
  const fields = [name, dataset, validation, ...settings.fields, ...task.fields];

  const start = h("button", { class: "button main", type: "submit", disabled: true }, "Start the job");
  const problems = h("div");
  const panel = estimatePanel({ signal, start, checked: (problem) => showErrorsOf(problem) });

  function explain() {
    settings.explain();
    const own = dataset.control.value;
    for (const option of validation.control.options)
      option.disabled = option.value !== HOLD_OUT && option.value === own;
    if (validation.control.value === own) validation.control.value = HOLD_OUT;
    const share = settings.chosen().evaluate.holdout;
    const held = share > 0 ? `${Math.round(share * 100)} % of the dataset, held out` : "none";
    validation.control.options[0].textContent = held;
  }

  function read() {
    const sent = { dataset: dataset.control.value, ...settings.read() };
    if (validation.control.value) sent.validation = validation.control.value;
    if (name.control.value.trim()) sent.name = name.control.value.trim();
    const how = task.read();
    return how === null ? sent : { ...sent, task: how };
  }

  function showErrorsOf(problem) {
    fields.forEach((one) => one.setError(""));
    replace(problems);
    if (problem === null) return;
    const left = showErrors(fields, problem.errors);
    if (problem.errors.length > 0) {
      if (left.length > 0) replace(problems, problemBox({ message: left.map(errorSentence).join(" ") }));
    } else if (problem.code === "invalid-task" && task.isShown()) task.fields[0].setError(problem.message);
    else if (problem.code === "conflict" && problem.message.includes("named")) name.setError(`${problem.message}.`);
    else replace(problems, problemBox(problem));
    settings.unfold();
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
    const text = JSON.stringify(sent);
    // Sending the same form again, after a broken connection, must not make a second job: it has the same key.
    if (sending?.text !== text) sending = { text, key: token() };
    start.disabled = true;
    try {
      const job = await post("/jobs", sent, { headers: { "Idempotency-Key": sending.key } });
      if (sent.task) rememberTask(sent.dataset, sent.task);
      announce(`Started ${job.name}.`);
      location.hash = `#/jobs/${job.id}`;
    } catch (problem) {
      showErrorsOf(problem);
      start.disabled = false;
      (element.querySelector("[aria-invalid=true]") ?? start).focus();
    }
  }

  const base = system.base;
  const left = h(
    "div",
    { class: "stack" },
    h(
      "section",
      { class: "card stack" },
      h("h2", {}, "Data"),
      dataset.element,
      validation.element,
      task.element,
    ),
    settings.element,
    h("section", { class: "card stack" }, h("h2", {}, "Name of the job"), name.element),
  );
  const summary = h(
    "dl",
    { class: "facts" },
    h("dt", {}, "Base model"),
    h("dd", {}, base ? `${base.name} in ${base.quantization}` : "still loading"),
    h("dt", {}, "Runs on"),
    h(
      "dd",
      {},
      `${system.device.kind === "cuda" ? system.device.name : `CPU, ${count(system.device.threads, "thread")}`}`,
    ),
  );
  const right = h(
    "section",
    { class: "card stack before", "aria-label": "Before it starts" },
    h("h2", {}, "Before it starts"),
    summary,
    panel.element,
    problems,
    start,
  );
  const element = h("form", { class: "start", novalidate: true, onSubmit: submit }, left, right);
  element.addEventListener("input", (event) => event.target !== dataset.control && changed());
  dataset.control.addEventListener("change", changedRows);
  changedRows().catch((error) => error.name !== "AbortError" && replace(problems, problemBox(error)));
  return element;
}

function token() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
