/** The log of a job: states, messages and decisions, newest first. */

import { h, replace } from "../dom.js";
import { moment } from "../format.js";
import { STATES } from "../words.js";

const MOST_LINES = 400;

/** @returns {{element: HTMLElement, load: (lines: Object[]) => void}} */
export function jobLog() {
  const list = h("ol", { class: "log" });
  const element = h(
    "section",
    { class: "card" },
    h("h2", {}, "Log"),
    h("div", { class: "logbox", tabindex: 0, role: "region", "aria-label": "Log" }, list),
  );
  const line = (one) => {
    const kind = one.kind === "watch" || one.state === "failed" ? "warn" : one.kind;
    return h("li", { class: kind }, h("time", { class: "muted" }, moment(one.at)), h("span", {}, textOf(one)));
  };
  const load = (lines) => replace(list, lines.slice(-MOST_LINES).reverse().map(line));
  return { element, load };
}

function textOf(line) {
  if (line.kind === "state") {
    const word = STATES[line.state] ?? line.state;
    return `${word.charAt(0).toUpperCase()}${word.slice(1)}${line.error ? `: ${line.error.detail}` : ""}`;
  }
  const text = line.message ?? "";
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
  return line.kind === "watch" ? `Step ${line.step}: ${sentence}` : sentence;
}
