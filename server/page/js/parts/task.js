/** The task part of the start form: the prompt template of labelled rows, and the answer for each label. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { field } from "./field.js";
import { previewRow } from "./previewrow.js";

const DEFAULT = "{text}\nLabel:";
const MOST_LABELS = 40;

/**
 * The task part; it is shown for labelled rows only.
 * @returns {{element: HTMLElement, fields: Array<Object>, read: () => Object|null, isShown: () => boolean,
 *   show: (dataset: Object, task: Object|null) => Promise<void>}}
 */
export function taskPart() {
  const template = field("Prompt", h("textarea", { class: "mono", rows: 2, spellcheck: "false" }), {
    key: "template",
    hint: "What the model reads. {text} is replaced by the text of the row; the answer follows.",
  });
  const words = h("div", { class: "words" });
  const listed = field("Answers", h("input", { type: "hidden" }), {
    key: "options",
    hint: "What the model answers for each label. If left empty, the label itself.",
  });
  const sample = h("div", { class: "small" });
  const element = h("div", { class: "stack", hidden: true }, template.element, listed.element, words, sample);
  let dataset = null;
  let timer = 0;

  const shown = async () => {
    if (!template.control.value.includes("{text}")) {
      template.setError("Put {text} where the text of the row should be.");
      replace(sample);
      return;
    }
    template.setError("");
    const preview = await get(
      `/datasets/${dataset.id}/preview?rows=1&template=${encodeURIComponent(template.control.value)}`,
    );
    const answers = read()?.options;
    const row = preview.rows[0];
    // The preview uses the labels as answers. If the form has another answer, it is put in here, and the token count is
    // left out because it is that of the label.
    const target = row.segments.find((segment) => segment.target);
    const word = answers?.[target?.text.trim()];
    if (word) target.text = ` ${word}`;
    replace(
      sample,
      h("p", { class: "muted" }, "The first row, as the model will see it:"),
      previewRow(row, { counted: !word }),
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
    listed.element.hidden = labels.length > MOST_LABELS;
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
    replace(words, labels.length > MOST_LABELS ? [] : labels.map(pair));
    soon();
  }

  return { element, fields: [template, listed], read, show, isShown: () => !element.hidden };
}
