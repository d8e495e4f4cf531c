/** The playground: one prompt, answered by the base model and by adapters side by side. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { icon } from "../icons.js";
import { announce } from "../messages.js";
import { promptTargets, examplePrompts } from "../targets.js";
import { answerColumn } from "../parts/answer.js";
import { field, select } from "../parts/field.js";
import { problemBox, head, segments } from "../parts/pieces.js";
import { samplingPart } from "../parts/sampling.js";

const MOST_COLUMNS = 4;
const BASE = "";

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showPlayground({ place, signal, query }) {
  place.append(
    head("Playground", {
      about: "Send the same prompt to the base model and to adapters, and compare their answers.",
    }),
  );
  const body = place.appendChild(h("div", {}, h("p", { class: "muted" }, "Loading…")));
  try {
    const [{ adapters }, { jobs }, system] = await Promise.all([
      get("/adapters", { signal }),
      get("/jobs?limit=200", { signal }),
      get("/system", { signal }),
    ]);
    if (!signal.aborted) build(body, promptTargets(adapters, jobs), jobs, system, signal, query.get("adapter"));
  } catch (error) {
    if (error.name !== "AbortError") replace(body, problemBox(error));
  }
}

function build(body, found, jobs, system, signal, wanted) {
  let mode = "plain";
  const columns = [];
  const names = new Map(found.map((one) => [one.id, one]));
  const prompt = field(
    "Prompt",
    h("textarea", { rows: 3, placeholder: "Write a text that the model continues…" }),
  );
  const exampleBox = h("div", { class: "chips", hidden: true });
  const template = field("Template", h("textarea", { class: "mono", rows: 2, spellcheck: "false" }), {
    hint: "Adapters answer best if the prompt has the form that they were trained with. {text} is replaced by your prompt.",
  });
  const usesTemplate = h("input", { type: "checkbox", id: "uses-template", checked: true });
  const shape = h("code", {});
  const templateDetails = h(
    "details",
    { class: "small" },
    h("summary", {}, "Change the template"),
    template.element,
  );
  const templateBox = h(
    "div",
    { class: "stack", hidden: true },
    h(
      "label",
      { class: "check", for: "uses-template" },
      usesTemplate,
      h("span", {}, "Use the template of the training rows: ", shape),
    ),
    templateDetails,
  );
  const sampling = samplingPart();
  const go = h("button", { class: "button main", type: "submit" }, icon("resume", 15), "Ask");
  const stop = h("button", { class: "button", type: "button", hidden: true }, icon("stop", 15), "Stop");
  const clear = h("button", { class: "button quiet", type: "button", hidden: true }, "New conversation");
  const board = h("div", { class: "answers" });
  const add = select([], "", { "aria-label": "Add a column" });
  let options = null;
  let running = null;

  const updateChoices = () => {
    const free = [{ id: BASE, name: "base model", about: system.base?.name ?? "" }, ...found].filter(
      (one) => !columns.some((column) => column.id === one.id),
    );
    const texts = free.map((one) =>
      h("option", { value: one.id }, `${one.name}${one.about ? ` (${one.about})` : ""}`),
    );
    replace(add, h("option", { value: "-", selected: true }, "Add a column…"), texts);
    add.hidden = free.length === 0 || columns.length >= MOST_COLUMNS;
    board.dataset.columns = columns.length;
  };
  const taskNow = () => columns.map((column) => names.get(column.id)?.job?.task).find(Boolean) ?? null;
  const showTemplate = () => {
    const task = taskNow();
    const is = task !== null && mode === "plain";
    if (is && template.control.dataset.of !== task.template) {
      template.control.value = task.template;
      template.control.dataset.of = task.template;
      options = task.options ?? null;
      sampling.suggest(4);
      showExamples();
    }
    templateBox.hidden = !is;
    if (!is) exampleBox.hidden = true;
    templateDetails.hidden = !usesTemplate.checked;
    shape.textContent = template.control.value.replaceAll("\n", "↵");
  };
  const addColumn = (id) => {
    const one = id === BASE ? { name: "Base model", about: system.base?.name ?? "" } : names.get(id);
    if (!one || columns.some((column) => column.id === id)) return;
    const column = answerColumn({ id, name: one.name, about: one.about, close: () => removeColumn(column) });
    columns.push(column);
    board.append(column.element);
    updateChoices();
    showTemplate();
  };
  const removeColumn = (column) => {
    column.stop();
    columns.splice(columns.indexOf(column), 1);
    column.element.remove();
    updateChoices();
    showTemplate();
  };
  add.addEventListener("change", () => add.value !== "-" && addColumn(add.value));
  usesTemplate.addEventListener("change", showTemplate);
  template.control.addEventListener("input", showTemplate);

  const showExamples = async () => {
    const job = columns.map((column) => names.get(column.id)?.job).find((one) => one?.task);
    const texts = await examplePrompts(job, signal);
    const take = (text) => () => {
      prompt.control.value = text;
      prompt.setError("");
      prompt.control.focus();
    };
    const chip = (text) => h("button", { class: "chip", type: "button", onClick: take(text) }, text);
    replace(exampleBox, h("span", { class: "muted small" }, "Examples from its data:"), texts.slice(0, 4).map(chip));
    exampleBox.hidden = texts.length === 0;
  };

  async function ask(event) {
    event?.preventDefault();
    const text = prompt.control.value;
    if (!text.trim()) {
      prompt.setError("Write a prompt first.");
      prompt.control.focus();
      return;
    }
    const settings = sampling.read();
    if (settings === null || columns.length === 0) return;
    running = new AbortController();
    go.hidden = true;
    stop.hidden = false;
    announce("Prompt sent.");
    const isInTemplate = !templateBox.hidden && usesTemplate.checked && template.control.value.includes("{text}");
    const whole = isInTemplate ? template.control.value.replaceAll("{text}", () => text) : text;
    const labels = isInTemplate && options ? options : null;
    if (mode === "chat") prompt.control.value = "";
    clear.hidden = mode !== "chat";
    await Promise.all(
      columns.map((column) =>
        column.ask({ text: mode === "chat" ? text : whole, mode, settings, labels, signal: running.signal }),
      ),
    );
    go.hidden = false;
    stop.hidden = true;
    if (!signal.aborted) announce(columns.map((column) => column.inWords()).join(" "));
  }
  stop.addEventListener("click", () => running?.abort());
  clear.addEventListener("click", () => {
    columns.forEach((column) => column.clear());
    clear.hidden = true;
  });
  signal.addEventListener("abort", () => running?.abort());
  prompt.control.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !go.hidden) ask(event);
  });
  const modes = segments(
    "Mode",
    [
      ["plain", "Plain"],
      ["chat", "Chat"],
    ],
    mode,
    (value) => {
      mode = value;
      running?.abort();
      columns.forEach((column) => column.clear());
      clear.hidden = true;
      if (mode === "chat") sampling.suggest(128);
      showTemplate();
    },
  );
  const canChat = system.base?.chat !== false;
  const side = h(
    "section",
    { class: "card stack", "aria-label": "Sampling" },
    canChat
      ? h("div", { class: "row wide" }, h("h2", {}, "Mode"), modes)
      : h("p", { class: "muted small" }, "The base model has no chat template: it continues plain text."),
    sampling.element,
  );
  const form = h(
    "form",
    { class: "card stack ask", novalidate: true, onSubmit: ask },
    prompt.element,
    exampleBox,
    templateBox,
    h("div", { class: "row wide" }, h("div", { class: "row" }, go, stop, clear), add),
  );
  replace(body, h("div", { class: "playground" }, h("div", { class: "stack" }, form, board), side));
  const first = names.has(wanted) ? wanted : found[0]?.id;
  addColumn(BASE);
  if (first !== undefined) addColumn(first);
  else
    board.append(
      h(
        "div",
        { class: "card answer no-adapter" },
        h("h3", {}, "No adapter yet"),
        h(
          "p",
          { class: "muted" },
          "A job trains one. Its answers are then shown here, beside those of the base model.",
        ),
        h("a", { class: "button", href: "#/start" }, "Start a job"),
      ),
    );
  updateChoices();
}
