/** Settings, states and results of a job in words. */

import { count, plain, whole } from "./format.js";
import { forwardsPerStep, methodName } from "./methods.js";

/** The states of a job as the page shows them. */
export const STATES = {
  queued: "waiting",
  running: "running",
  paused: "paused",
  interrupted: "interrupted",
  succeeded: "finished",
  failed: "failed",
  cancelled: "cancelled",
};

/** What the rows of each dataset format hold. */
export const FORMATS = {
  completion: "a prompt and the text that should follow it",
  chat: "conversations; the model learns the assistant's messages",
  "chat-completion": "conversations in two parts; the model learns the assistant's messages of the second",
  classification: "a text and its label",
  "multiple-choice": "a prompt and several answers, one of them right",
  alpaca: "an instruction and its answer",
  sharegpt: "conversations as in ShareGPT; the model learns the messages of gpt",
  plain: "plain text; the model learns all of it",
};

/**
 * A profile in words.
 * @param {Object} profile As the API gives it.
 * @param {Map<string, import("./methods.js").Method>} methods
 * @returns {Array<[string, string]>} The name of each setting and what it is set to.
 */
export function profileInWords(profile, methods) {
  const { method, batch, evaluate } = profile;
  const kept = evaluate.keep === "best" ? "best evaluation" : "last step";
  const forwards = forwardsPerStep(methods, method);
  const cost = forwards === null ? "" : `: ${count(forwards, "forward pass", "forward passes")} a step`;
  return [
    ["Trains", subset(profile.subset)],
    ["Method", `${methodName(methods, method.kind)}${cost}`],
    ["Rows a step", `${whole(batch.examples)}, of up to ${count(batch.max_tokens, "token")} each`],
    ["Learning rate", rate(profile.rule.learning_rate, methods.get(method.kind))],
    [
      "Evaluated",
      `every ${count(evaluate.every, "step")}, on up to ${count(evaluate.examples, "validation row")}; the adapter of the ${kept} is kept`,
    ],
  ];
}

function subset(subset) {
  const top = subset.last_layers ? ` in the last ${count(subset.last_layers, "layer")}` : " in all layers";
  if (subset.kind === "lora") return `a small adapter (LoRA, rank ${subset.rank})${top}`;
  if (subset.kind === "lora-xs") return `a small matrix inside each weight (LoRA-XS, rank ${subset.rank})${top}`;
  if (subset.kind === "last-n-layers") return `the weights of the last ${count(subset.layers ?? 1, "layer")}`;
  return subset.kind;
}

function rate(setting, method) {
  if (setting === "auto") return method?.automatic_rate ?? "found automatically";
  return typeof setting === "number" ? plain(setting) : setting;
}

/** Metrics that can be the score of a task; the first one that an evaluation has is shown. */
export const SCORES = ["accuracy", "f1", "exact_match", "score", "balanced_accuracy"];

/**
 * The score of an evaluation.
 * @param {Object|null} metrics As jobs and evaluations have them.
 * @returns {{name: string, value: number}|null} Null if there is no metric but the loss.
 */
export function score(metrics) {
  for (const name of SCORES) {
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

/** @param {Object} job @returns {string} The state in words: "running", or "pausing…" after a request to pause. */
export function stateOf(job) {
  if (job.requested === "pause") return "pausing…";
  if (job.requested === "cancel") return "cancelling…";
  return STATES[job.state] ?? job.state;
}

/** @param {number} step @param {number} steps @returns {string} */
export function stepsOf(step, steps) {
  return `${whole(step)} of ${whole(steps)}`;
}
