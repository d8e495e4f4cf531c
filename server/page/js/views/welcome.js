/** The jobs view as long as there is no job: three steps to the first one, and which of them are done. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { count } from "../format.js";
import { exampleDataButton } from "../parts/exampledata.js";
import { uploader } from "../parts/uploader.js";

/**
 * Shows the three steps. If called again, it redraws them only after the datasets have changed.
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
        h("div", { class: "row" }, h("span", { class: "muted" }, "No data yet?"), exampleDataButton(opened)),
      ];
  const second = newest
    ? [
        h("p", {}, "Everything has a default. You see how much memory and time the job needs before it starts."),
        h("a", { class: "button main", href: `#/start?dataset=${newest.id}` }, "Start a job"),
      ]
    : [
        h(
          "p",
          { class: "muted" },
          "Choose a dataset; everything else has a default. You see how much memory and time the job needs before it starts.",
        ),
      ];
  const third = [
    h(
      "p",
      { class: "muted" },
      "Send the same prompt to the base model and to your adapter, also while it is still training.",
    ),
    h("a", { class: "button quiet", href: "#/playground" }, "Try the base model now"),
  ];
  replace(
    body,
    h(
      "ol",
      { class: "welcome" },
      step(1, "Upload data", Boolean(newest), first),
      step(2, "Start a job", false, second),
      step(3, "Try the result", false, third),
    ),
    h(
      "p",
      { class: "muted small" },
      "Nothing leaves this machine. Training uses forward passes only, without back-propagation, unless you choose exact gradients; so it needs about as much memory as inference.",
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
      isDone && h("span", { class: "visually-hidden" }, " (done)"),
    ),
    content,
  );
}
