/** How a job learns: a profile, what it means in words, and what may be changed of it. */

import { h, replace } from "../dom.js";
import { METHODS, meaning } from "../words.js";
import { field, select } from "./field.js";

const AS_IS = "";
const FIRST = "cpu-demo";

/**
 * A part of the start form.
 * @param {Object[]} profiles As the API gives them.
 * @returns {{element: HTMLElement, fields: Array<Object>, chosen: () => Object, explain: () => void,
 *   read: () => {profile: string, overrides: Object, seed: number}, unfold: () => void}} `explain` puts the present
 *   choice into words, `unfold` shows a faulty field that is folded away.
 */
export function settingsPart(profiles) {
  const names = profiles.map((one) => [one.name, one.name]);
  const kinds = Object.entries(METHODS).map(([kind, one]) => [kind, one.name]);
  const profile = field("Profile", select(names, FIRST), { key: "profile" });
  const method = field("Method", select([[AS_IS, ""], ...kinds], AS_IS), { key: "kind", hint: " " });
  const steps = field("Steps", number(1, 10_000_000), {
    key: "steps",
    hint: "A run can be paused, and ended early: it keeps what it has.",
  });
  const pool = field("Candidates a step", number(2, 256), {
    key: "pool",
    hint: "More of them: steadier, slower steps.",
  });
  const rate = field("Learning rate", h("input", { inputmode: "decimal", autocomplete: "off" }), {
    key: "learning_rate",
    hint: "auto finds it; 0.5 * auto takes half of that.",
  });
  const rows = field("Rows a step", number(1, 4096), { key: "examples" });
  const longest = field("Longest row, tokens", number(8, 131_072), { key: "max_tokens" });
  const every = field("Steps between checks", number(1, 10_000_000), { key: "every" });
  const seed = field("Seed", number(0, Number.MAX_SAFE_INTEGER, 0), {
    key: "seed",
    hint: "The same seed makes the same adapter.",
  });
  const changes = new Map([
    ["method.kind", method],
    ["method.pool", pool],
    ["steps", steps],
    ["batch.examples", rows],
    ["batch.max_tokens", longest],
    ["evaluate.every", every],
    ["rule.learning_rate", rate],
  ]);
  const about = h("p", {});
  const words = h("dl", { class: "facts" });
  const folded = [pool, rate, rows, longest, every, seed].map((one) => one.element);
  const more = h("details", {}, h("summary", {}, "More settings"), h("div", { class: "grid2" }, folded));
  const element = h(
    "section",
    { class: "card stack" },
    h("h2", {}, "How it learns"),
    profile.element,
    h("div", { class: "meaning stack" }, about, words),
    h("div", { class: "grid2" }, method.element, steps.element),
    more,
  );

  const chosen = () => profiles.find((one) => one.name === profile.control.value);

  function read() {
    const overrides = {};
    for (const [path, one] of changes) {
      const text = one.control.value.trim();
      if (text !== "" && !one.element.hidden) overrides[path] = scalar(text);
    }
    return { profile: profile.control.value, overrides, seed: Number(seed.control.value || 0) };
  }

  function explain() {
    const one = chosen();
    const kind = method.control.value || one.method.kind;
    const known = METHODS[kind];
    const usual = one.method.pool ?? known.pool;
    const now = withChanges(one, { "method.pool": usual, ...read().overrides });
    about.textContent = one.description;
    replace(
      words,
      meaning(now).map(([word, text]) => [h("dt", {}, word), h("dd", {}, text)]),
    );
    method.control.options[0].textContent = `as in the profile: ${METHODS[one.method.kind].name}`;
    method.tell(known.about);
    pool.element.hidden = !known.pool;
    pool.control.placeholder = usual ?? "–";
    steps.control.placeholder = one.steps;
    rows.control.placeholder = one.batch.examples;
    longest.control.placeholder = one.batch.max_tokens;
    every.control.placeholder = one.evaluate.every;
    rate.control.placeholder = one.rule.learning_rate;
  }

  const unfold = () => {
    if (more.querySelector("[aria-invalid=true]")) more.open = true;
  };
  return { element, fields: [profile, seed, ...changes.values()], chosen, explain, read, unfold };
}

function withChanges(profile, overrides) {
  const changed = structuredClone(profile);
  for (const [path, value] of Object.entries(overrides)) {
    const keys = path.split(".");
    const last = keys.pop();
    keys.reduce((place, key) => place[key], changed)[last] = value;
  }
  return changed;
}

function number(min, max, value = "") {
  return h("input", { type: "number", min, max, step: 1, value, inputmode: "numeric" });
}

function scalar(text) {
  return Number.isFinite(Number(text)) ? Number(text) : text;
}
