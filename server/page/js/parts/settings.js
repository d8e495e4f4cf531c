/** The settings part of the start form: a profile, what it means in words, and fields that override it. */

import { h, replace } from "../dom.js";
import { methodName } from "../methods.js";
import { profileInWords } from "../words.js";
import { field, select } from "./field.js";

const AS_IS = "";
const FIRST_PROFILE = "cpu-demo";

/**
 * The settings part.
 * @param {Object[]} profiles As the API gives them.
 * @param {Map<string, import("../methods.js").Method>} methods
 * @returns {{element: HTMLElement, fields: Array<Object>, chosen: () => Object, explain: () => void,
 *   read: () => {profile: string, overrides: Object, seed: number}, unfold: () => void}} `explain` updates the
 *   description and the placeholders after a change; `unfold` opens "More settings" if a field in it has an error.
 */
export function settingsPart(profiles, methods) {
  const names = profiles.map((one) => [one.name, one.name]);
  const kinds = [...methods.values()].map((one) => [one.kind, one.name]);
  const profile = field("Profile", select(names, FIRST_PROFILE), { key: "profile" });
  const method = field("Method", select([[AS_IS, ""], ...kinds], AS_IS), { key: "kind", hint: " " });
  const steps = field("Steps", number(1, 10_000_000), {
    key: "steps",
    hint: "A job can be paused or ended early; what it has trained so far is kept.",
  });
  const pool = field("Candidates a step", number(2, 256), {
    key: "pool",
    hint: "Random changes that are tried in each step. More of them make steps less noisy, and slower.",
  });
  const rate = field("Learning rate", h("input", { inputmode: "decimal", autocomplete: "off" }), {
    key: "learning_rate",
    hint: "auto finds one before the first step; 0.5 * auto takes half of what is found.",
  });
  const rows = field("Rows a step", number(1, 4096), { key: "examples" });
  const longest = field("Longest row, tokens", number(8, 131_072), { key: "max_tokens" });
  const every = field("Steps between evaluations", number(1, 10_000_000), { key: "every" });
  const seed = field("Seed", number(0, Number.MAX_SAFE_INTEGER, 0), {
    key: "seed",
    hint: "The same seed gives the same adapter.",
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
    h("h2", {}, "Training settings"),
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
    const known = methods.get(kind);
    const hasPool = known.settings.pool !== undefined;
    // As the server does it: a setting of the profile stays if the other method has it too.
    const usual = hasPool ? (one.method.pool ?? known.settings.pool) : undefined;
    pool.element.hidden = !hasPool;
    const now = withChanges(one, { "method.pool": usual, ...read().overrides });
    about.textContent = one.description;
    replace(
      words,
      profileInWords(now, methods).map(([word, text]) => [h("dt", {}, word), h("dd", {}, text)]),
    );
    method.control.options[0].textContent = `as in the profile: ${methodName(methods, one.method.kind)}`;
    method.setHint(sentence(known.about));
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

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

function scalar(text) {
  return Number.isFinite(Number(text)) ? Number(text) : text;
}
