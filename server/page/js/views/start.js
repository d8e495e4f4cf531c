/** The form that starts a job; what it will need is shown before it can be started. */

import { get, post } from "../api.js";
import { h, replace } from "../dom.js";
import { count } from "../format.js";
import { announce } from "../notes.js";
import { estimatePanel } from "../parts/estimate.js";
import { field, fixing, select, tellFields } from "../parts/field.js";
import { empty, faults, head } from "../parts/pieces.js";
import { settingsPart } from "../parts/settings.js";
import { taskPart } from "../parts/task.js";
import { rememberTask, taskOf } from "../tasks.js";

const AS_IS = "";

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showStart({ place, signal, query }) {
  place.append(
    head("New job", {
      about: "Choose the rows; everything else has a default that works.",
      trail: ["#/jobs", "Jobs"],
    }),
  );
  const body = place.appendChild(h("div", {}, h("p", { class: "muted" }, "Looking at what there is…")));
  try {
    const [{ datasets }, { profiles }, system] = await Promise.all([
      get("/datasets", { signal }),
      get("/profiles", { signal }),
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
            "There are no rows to learn from yet",
            "Upload a file first: JSON lines, JSON, CSV or Parquet.",
            h("a", { class: "button main", href: "#/data" }, "Go to Data"),
          ),
        ),
      );
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
  const validation = field("Judged by", select([[AS_IS, ""], ...datasets.map(named)], AS_IS), {
    key: "validation",
    hint: "Rows that are never learned; they say how good the adapter is.",
  });
  const name = field(
    "Name",
    h("input", { maxlength: 100, placeholder: "job-…", autocomplete: "off", spellcheck: "false" }),
    { key: "name", hint: "Of the job and its adapter. Left empty, the server makes one." },
  );
  const task = taskPart();
  const settings = settingsPart(profiles);
  const fields = [name, dataset, validation, ...settings.fields, ...task.fields];

  const start = h("button", { class: "button main", type: "submit", disabled: true }, "Start the job");
  const wrong = h("div");
  const panel = estimatePanel({ signal, start, told: (problem) => tell(problem) });

  function explain() {
    settings.explain();
    const own = dataset.control.value;
    for (const option of validation.control.options)
      option.disabled = option.value !== AS_IS && option.value === own;
    if (validation.control.value === own) validation.control.value = AS_IS;
    const share = settings.chosen().evaluate.holdout;
    const aside = share > 0 ? `${Math.round(share * 100)} % of these rows, set aside` : "nothing";
    validation.control.options[0].textContent = aside;
  }

  function read() {
    const sent = { dataset: dataset.control.value, ...settings.read() };
    if (validation.control.value) sent.validation = validation.control.value;
    if (name.control.value.trim()) sent.name = name.control.value.trim();
    const how = task.read();
    return how === null ? sent : { ...sent, task: how };
  }

  function tell(problem) {
    fields.forEach((one) => one.wrong(""));
    replace(wrong);
    if (problem === null) return;
    const left = tellFields(fields, problem.errors);
    if (problem.errors.length > 0) {
      if (left.length > 0) replace(wrong, faults({ message: left.map(fixing).join(" ") }));
    } else if (problem.code === "invalid-task" && task.isShown()) task.fields[0].wrong(problem.message);
    else if (problem.code === "conflict" && problem.message.includes("named")) name.wrong(`${problem.message}.`);
    else replace(wrong, faults(problem));
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
  const left = h(
    "div",
    { class: "stack" },
    h(
      "section",
      { class: "card stack" },
      h("h2", {}, "What it learns from"),
      dataset.element,
      validation.element,
      task.element,
    ),
    settings.element,
    h("section", { class: "card stack" }, h("h2", {}, "What it is called"), name.element),
  );
  const summary = h(
    "dl",
    { class: "facts" },
    h("dt", {}, "Base"),
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
    wrong,
    start,
  );
  const element = h("form", { class: "start", novalidate: true, onSubmit: submit }, left, right);
  element.addEventListener("input", (event) => event.target !== dataset.control && changed());
  dataset.control.addEventListener("change", changedRows);
  changedRows().catch((error) => error.name !== "AbortError" && replace(wrong, faults(error)));
  return element;
}

function token() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
