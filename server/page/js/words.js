/** What settings and states mean, in words. */

import { count, plain, whole } from "./format.js";

/** Every method by its kind: its name, what it does, and what a step costs in forward passes; `pool` is its usual one, 0 for none. */
export const METHODS = {
  "all-losses": {
    name: "All losses",
    about: "Tries a pool of small random changes and moves along all of them, weighted by their losses.",
    cost: (m) => m.pool,
    pool: 16,
  },
  "guiding-vector": {
    name: "Guiding vector (MeZO-GV)",
    about: "Tries a pool, then steps from the bad half towards the good half.",
    cost: (m) => m.pool + 2,
    pool: 2,
  },
  "weighted-guide": {
    name: "Weighted guide",
    about: "The guiding vector with every loss as a weight.",
    cost: (m) => m.pool + 2,
    pool: 8,
  },
  greedy: {
    name: "Greedy (MeZO-Greedy)",
    about: "Tries a pool and steps along the best candidate only.",
    cost: (m) => m.pool + 1,
    pool: 4,
  },
  "two-point": {
    name: "Two point (MeZO)",
    about: "One random change, forwards and backwards. The cheapest step.",
    cost: () => 2,
    pool: 0,
  },
};

/** What a state means for whoever waits. */
export const STATES = {
  queued: "waiting",
  running: "running",
  paused: "paused",
  interrupted: "interrupted",
  succeeded: "finished",
  failed: "failed",
  cancelled: "cancelled",
};

/** How rows of each format are meant. */
export const FORMATS = {
  completion: "a prompt and what should follow",
  chat: "conversations; the assistant's turns are learned",
  classification: "texts and their class",
  "multiple-choice": "a prompt and ways to go on, one of them right",
  alpaca: "instructions and answers",
  sharegpt: "conversations; the model's turns are learned",
  plain: "plain text, learned from beginning to end",
};

/**
 * A profile as pairs of a word and what it means.
 * @param {Object} profile As the API gives it.
 * @returns {Array<[string, string]>}
 */
export function meaning(profile) {
  const { method, batch, evaluate } = profile;
  const kind = METHODS[method.kind];
  return [
    ["Trains", subset(profile.subset)],
    [
      "Method",
      `${kind?.name ?? method.kind}: ${kind ? count(kind.cost(method), "forward pass", "forward passes") : "?"} a step`,
    ],
    ["Each step sees", `${count(batch.examples, "row")} of up to ${count(batch.max_tokens, "token")}`],
    ["Step size", rate(profile.rule.learning_rate)],
    [
      "Checked",
      `every ${count(evaluate.every, "step")} on up to ${count(evaluate.examples, "row")} that are not learned; the ${evaluate.keep === "best" ? "best" : "last"} version is kept`,
    ],
  ];
}

function subset(subset) {
  const top = subset.last_layers ? ` in the last ${count(subset.last_layers, "layer")}` : " in all layers";
  if (subset.kind === "lora") return `a small adapter (LoRA, rank ${subset.rank})${top}`;
  if (subset.kind === "lora-xs") return `the cores of the weights (rank ${subset.rank})${top}`;
  return `the weights of the last ${count(subset.layers ?? 1, "layer")}`;
}

function rate(setting) {
  if (setting === "auto") return "found by itself before the first step";
  return typeof setting === "number" ? plain(setting) : setting;
}

/**
 * What an evaluation is judged by: the score of its task, in words.
 * @param {Object|null} metrics As jobs and evaluations have them.
 * @returns {{name: string, value: number}|null} None where the loss is all there is.
 */
export function score(metrics) {
  for (const name of ["accuracy", "f1", "exact_match", "score", "balanced_accuracy"]) {
    const value = metrics?.[name];
    if (typeof value === "number") return { name: name.replace("_", " "), value };
  }
  return null;
}

/** @param {Object} job @returns {number|null} Steps a second. */
export function speed(job) {
  const left = job.steps - job.step;
  return job.state === "running" && job.seconds_left > 0 && left > 0 ? left / job.seconds_left : null;
}

/** @param {Object} job @returns {string} "running", or what is about to become of it. */
export function stateOf(job) {
  if (job.requested === "pause") return "pausing…";
  if (job.requested === "cancel") return "cancelling…";
  return STATES[job.state] ?? job.state;
}

/** @param {number} step @param {number} steps @returns {string} */
export function stepsOf(step, steps) {
  return `${whole(step)} of ${whole(steps)}`;
}
