/** The sampling settings of the playground. */

import { h } from "../dom.js";
import { field, errorSentence } from "./field.js";

const FIELDS = [
  ["max_new_tokens", "Longest answer, in tokens", { min: 1, max: 4096, step: 1 }, 64, ""],
  ["temperature", "Temperature", { min: 0, max: 10, step: 0.1 }, 0, "0 takes the likeliest token; higher is more random."],
  ["top_p", "Top p", { min: 0.01, max: 1, step: 0.01 }, 1, "Only the likeliest tokens that add up to this probability."],
  ["top_k", "Top k", { min: 0, max: 100000, step: 1 }, 0, "Only this many of the likeliest tokens; 0 keeps all."],
  ["seed", "Seed", { min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 }, 0, "The same seed gives the same answer."],
];

/**
 * Creates the sampling settings.
 * @returns {{element: HTMLElement, read: () => Object|null, suggest: (tokens: number) => void}} `read` shows an error
 *   and gives null if a value is invalid; `suggest` sets the length unless the user has changed it.
 */
export function samplingPart() {
  let touched = false;
  const fields = FIELDS.map(([key, label, limits, value, hint]) =>
    field(label, h("input", { type: "number", value, inputmode: "decimal", ...limits }), { key, hint }),
  );
  const stop = field("Stop at", h("input", { autocomplete: "off", spellcheck: "false", placeholder: "\\n" }), {
    hint: "The answer ends before this text; \\n is the end of a line.",
  });
  fields[0].control.addEventListener("input", () => (touched = true));

  function read() {
    const settings = {};
    for (const one of fields) {
      const { min, max, value } = one.control;
      const number = Number(value);
      if (value === "" || !Number.isFinite(number) || number < Number(min) || number > Number(max)) {
        one.setError(errorSentence({ field: one.key, fix: `It should be between ${min} and ${max}`, found: "" }));
        one.control.focus();
        return null;
      }
      settings[one.key] = number;
    }
    const text = stop.control.value.replaceAll("\\n", "\n");
    return text ? { ...settings, stop: [text] } : settings;
  }
  const suggest = (tokens) => {
    if (!touched) fields[0].control.value = tokens;
  };
  return {
    element: h(
      "div",
      { class: "stack" },
      h("h2", {}, "Sampling"),
      h(
        "div",
        { class: "grid3" },
        fields.map((one) => one.element),
        stop.element,
      ),
    ),
    read,
    suggest,
  };
}
