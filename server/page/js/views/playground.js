/** One prompt, answered by the base and by adapters, side by side as they come. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { icon } from "../icons.js";
import { announce } from "../notes.js";
import { choices, ideasOf } from "../answerers.js";
import { answerColumn } from "../parts/answer.js";
import { field, select } from "../parts/field.js";
import { faults, head, segments } from "../parts/pieces.js";
import { samplingPart } from "../parts/sampling.js";

const MOST = 4;
const BASE = "";

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showPlayground({ place, signal, query }) {
  place.append(head("Playground", { about: "The same prompt to the base and to adapters, side by side." }));
  const body = place.appendChild(h("div", {}, h("p", { class: "muted" }, "Looking at what there is…")));
  try {
    const [{ adapters }, { jobs }, system] = await Promise.all([
      get("/adapters", { signal }),
      get("/jobs?limit=200", { signal }),
      get("/system", { signal }),
    ]);
    if (!signal.aborted) build(body, choices(adapters, jobs), jobs, system, signal, query.get("adapter"));
  } catch (error) {
    if (error.name !== "AbortError") replace(body, faults(error));
  }
}

function build(body, found, jobs, system, signal, wanted) {
  let mode = "plain";
  const columns = [];
  const names = new Map(found.map((one) => [one.id, one]));
  const prompt = field(
    "Prompt",
    h("textarea", { rows: 3, placeholder: "Write something for the model to go on with…" }),
  );
  const ideas = h("div", { class: "chips", hidden: true });
  const frame = field("Template", h("textarea", { class: "mono", rows: 2, spellcheck: "false" }), {
    hint: "Adapters answer best where the prompt is put as it was while they learned. {text} is what you write above.",
  });
  const framed = h("input", { type: "checkbox", id: "framed", checked: true });
  const shape = h("code", {});
  const framing = h("details", { class: "small" }, h("summary", {}, "Change how it is put"), frame.element);
  const frameBox = h(
    "div",
    { class: "stack", hidden: true },
    h(
      "label",
      { class: "check", for: "framed" },
      framed,
      h("span", {}, "Put it as the rows were while it learned: ", shape),
    ),
    framing,
  );
  const sampling = samplingPart();
  const go = h("button", { class: "button main", type: "submit" }, icon("resume", 15), "Ask");
  const stop = h("button", { class: "button", type: "button", hidden: true }, icon("stop", 15), "Stop");
  const clear = h("button", { class: "button quiet", type: "button", hidden: true }, "New conversation");
  const board = h("div", { class: "answers" });
  const add = select([], "", { "aria-label": "Add a column" });
  let options = null;
  let running = null;

  const offer = () => {
    const free = [{ id: BASE, name: "the base", about: system.base?.name ?? "" }, ...found].filter(
      (one) => !columns.some((column) => column.id === one.id),
    );
    const texts = free.map((one) =>
      h("option", { value: one.id }, `${one.name}${one.about ? ` (${one.about})` : ""}`),
    );
    replace(add, h("option", { value: "-", selected: true }, "Add a column…"), texts);
    add.hidden = free.length === 0 || columns.length >= MOST;
    board.dataset.columns = columns.length;
  };
  const taskNow = () => columns.map((column) => names.get(column.id)?.job?.task).find(Boolean) ?? null;
  const showFrame = () => {
    const task = taskNow();
    const is = task !== null && mode === "plain";
    if (is && frame.control.dataset.of !== task.template) {
      frame.control.value = task.template;
      frame.control.dataset.of = task.template;
      options = task.options ?? null;
      sampling.suggest(4);
      showIdeas();
    }
    frameBox.hidden = !is;
    if (!is) ideas.hidden = true;
    framing.hidden = !framed.checked;
    shape.textContent = frame.control.value.replaceAll("\n", "↵");
  };
  const put = (id) => {
    const one = id === BASE ? { name: "Base", about: system.base?.name ?? "" } : names.get(id);
    if (!one || columns.some((column) => column.id === id)) return;
    const column = answerColumn({ id, name: one.name, about: one.about, close: () => drop(column) });
    columns.push(column);
    board.append(column.element);
    offer();
    showFrame();
  };
  const drop = (column) => {
    column.stop();
    columns.splice(columns.indexOf(column), 1);
    column.element.remove();
    offer();
    showFrame();
  };
  add.addEventListener("change", () => add.value !== "-" && put(add.value));
  framed.addEventListener("change", showFrame);
  frame.control.addEventListener("input", showFrame);

  const showIdeas = async () => {
    const job = columns.map((column) => names.get(column.id)?.job).find((one) => one?.task);
    const texts = await ideasOf(job, signal);
    const take = (text) => () => {
      prompt.control.value = text;
      prompt.wrong("");
      prompt.control.focus();
    };
    const chip = (text) => h("button", { class: "chip", type: "button", onClick: take(text) }, text);
    replace(ideas, h("span", { class: "muted small" }, "From its rows:"), texts.slice(0, 4).map(chip));
    ideas.hidden = texts.length === 0;
  };

  async function ask(event) {
    event?.preventDefault();
    const text = prompt.control.value;
    if (!text.trim()) {
      prompt.wrong("Write a prompt first.");
      prompt.control.focus();
      return;
    }
    const settings = sampling.read();
    if (settings === null || columns.length === 0) return;
    running = new AbortController();
    go.hidden = true;
    stop.hidden = false;
    announce("Asking.");
    const isFramed = !frameBox.hidden && framed.checked && frame.control.value.includes("{text}");
    const whole = isFramed ? frame.control.value.replaceAll("{text}", () => text) : text;
    const labels = isFramed && options ? options : null;
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
      showFrame();
    },
  );
  const canChat = system.base?.chat !== false;
  const side = h(
    "section",
    { class: "card stack", "aria-label": "Sampling" },
    canChat
      ? h("div", { class: "row wide" }, h("h2", {}, "Mode"), modes)
      : h("p", { class: "muted small" }, "This base has no chat template: it goes on with plain text."),
    sampling.element,
  );
  const form = h(
    "form",
    { class: "card stack ask", novalidate: true, onSubmit: ask },
    prompt.element,
    ideas,
    frameBox,
    h("div", { class: "row wide" }, h("div", { class: "row" }, go, stop, clear), add),
  );
  replace(body, h("div", { class: "playground" }, h("div", { class: "stack" }, form, board), side));
  const first = names.has(wanted) ? wanted : found[0]?.id;
  put(BASE);
  if (first !== undefined) put(first);
  else
    board.append(
      h(
        "div",
        { class: "card answer hintcard" },
        h("h3", {}, "No adapter yet"),
        h("p", { class: "muted" }, "A job makes one; its answers then stand here beside the base's."),
        h("a", { class: "button", href: "#/start" }, "Start a job"),
      ),
    );
  offer();
}
