/** What somebody sees who is here for the first time: three steps, and which of them are done. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { count } from "../format.js";
import { exampleButton } from "../parts/example.js";
import { uploader } from "../parts/uploader.js";

/**
 * Shows the way to the first job; called again, it changes only what has changed.
 * @param {HTMLElement} body
 * @param {AbortSignal} signal
 */
export async function firstSteps(body, signal) {
  const { datasets } = await get("/datasets", { signal });
  const state = datasets.map((one) => one.id).join();
  if (body.dataset.welcome === state && body.querySelector(".welcome")) return;
  body.dataset.welcome = state;
  const opened = (dataset) => (location.hash = `#/data/${dataset.id}`);
  const newest = datasets[0];
  const first = newest
    ? [
        h("p", {}, `${newest.name}: ${count(newest.rows, "row")}.`),
        h(
          "div",
          { class: "row" },
          h("a", { class: "button", href: `#/data/${newest.id}` }, "Look at it"),
          h("a", { class: "button quiet", href: "#/data" }, "All data"),
        ),
      ]
    : [
        uploader({ done: opened }),
        h("div", { class: "row" }, h("span", { class: "muted" }, "Nothing at hand?"), exampleButton(opened)),
      ];
  const second = newest
    ? [
        h("p", {}, "Everything has a default. You see memory and time before anything runs."),
        h("a", { class: "button main", href: `#/start?dataset=${newest.id}` }, "Start a job"),
      ]
    : [
        h(
          "p",
          { class: "muted" },
          "Choose what to learn from; everything else has a default. You see memory and time before anything runs.",
        ),
      ];
  const third = [
    h(
      "p",
      { class: "muted" },
      "Ask the base and your adapter the same thing, side by side, also while it still learns.",
    ),
    h("a", { class: "button quiet", href: "#/playground" }, "Ask the base now"),
  ];
  replace(
    body,
    h(
      "ol",
      { class: "welcome" },
      step(1, "Bring rows", Boolean(newest), first),
      step(2, "Start a job", false, second),
      step(3, "Try the result", false, third),
    ),
    h(
      "p",
      { class: "muted small" },
      "Nothing leaves this machine. Learning takes forward passes only: no gradients, and the memory of inference.",
    ),
  );
}

function step(number, title, isDone, content) {
  return h(
    "li",
    { class: isDone ? "card done" : "card" },
    h(
      "h2",
      {},
      h("span", { class: "number", "aria-hidden": "true" }, isDone ? "✓" : number),
      title,
      isDone && h("span", { class: "unseen" }, " (done)"),
    ),
    content,
  );
}
