/** How labelled rows are put to the model: a template, and the word it answers with for each label. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { field } from "./field.js";
import { seenRow } from "./seen.js";

const DEFAULT = "{text}\nLabel:";
const MOST_WORDS = 40;

/**
 * A part of the start form, shown for labelled rows only.
 * @returns {{element: HTMLElement, fields: Array<Object>, read: () => Object|null, isShown: () => boolean,
 *   show: (dataset: Object, task: Object|null) => Promise<void>}}
 */
export function taskPart() {
  const template = field("Prompt", h("textarea", { class: "mono", rows: 2, spellcheck: "false" }), {
    key: "template",
    hint: "What the model reads; {text} stands for the row's text. Its answer follows.",
  });
  const words = h("div", { class: "words" });
  const listed = field("Answers", h("input", { type: "hidden" }), {
    key: "options",
    hint: "The word it answers with for each label; left empty, the label itself.",
  });
  const sample = h("div", { class: "small" });
  const element = h("div", { class: "stack", hidden: true }, template.element, listed.element, words, sample);
  let dataset = null;
  let timer = 0;

  const shown = async () => {
    if (!template.control.value.includes("{text}")) {
      template.wrong("Put {text} where the row's text should stand.");
      replace(sample);
      return;
    }
    template.wrong("");
    const seen = await get(
      `/datasets/${dataset.id}/preview?rows=1&template=${encodeURIComponent(template.control.value)}`,
    );
    const answers = read()?.options;
    const row = seen.rows[0];
    // The preview knows the template; the words are put in here, and then its count of tokens is of another word.
    const target = row.segments.find((segment) => segment.target);
    const word = answers?.[target?.text.trim()];
    if (word) target.text = ` ${word}`;
    replace(
      sample,
      h("p", { class: "muted" }, "The first row, as the model will see it:"),
      seenRow(row, { counted: !word }),
    );
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => shown().catch(() => replace(sample)), 300);
  };
  element.addEventListener("input", soon);

  function read() {
    if (element.hidden) return null;
    const inputs = [...words.querySelectorAll("input")];
    const own = inputs.some((input) => input.value.trim() && input.value.trim() !== input.dataset.label);
    const options = Object.fromEntries(
      inputs.map((input) => [input.dataset.label, input.value.trim() || input.dataset.label]),
    );
    const task = { template: template.control.value };
    return own ? { ...task, options } : task;
  }

  async function show(one, task) {
    dataset = one;
    element.hidden = one.format !== "classification";
    if (element.hidden) return;
    template.control.value = task?.template ?? DEFAULT;
    const labels = one.labels ?? [];
    listed.element.hidden = labels.length > MOST_WORDS;
    const pair = (label, index) => {
      const id = `word-${index}`;
      return h(
        "div",
        { class: "word" },
        h("label", { for: id }, label),
        h("input", {
          id,
          data: { label },
          placeholder: label,
          value: task?.options?.[label] ?? "",
          autocomplete: "off",
          spellcheck: "false",
        }),
      );
    };
    replace(words, labels.length > MOST_WORDS ? [] : labels.map(pair));
    soon();
  }

  return { element, fields: [template, listed], read, show, isShown: () => !element.hidden };
}
