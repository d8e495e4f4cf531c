/** What a prompt can be sent to (adapters and jobs), and example prompts for it. */

import { get } from "./api.js";
import { STATES } from "./words.js";

/**
 * The adapters that can answer a prompt: those of jobs that run or are paused, as trained so far, and saved ones.
 * @param {Object[]} adapters As the API lists them.
 * @param {Object[]} jobs
 * @returns {Array<{id: string, name: string, about: string, job: Object|null}>}
 */
export function promptTargets(adapters, jobs) {
  const live = jobs.filter((job) => ["running", "paused"].includes(job.state));
  const running = live.some((job) => job.state === "running");
  const found = live.map((job) => ({
    id: job.id,
    name: job.name,
    about: job.state === "running" ? "training now" : "paused",
    job,
  }));
  const known = new Set(live.map((job) => job.id));
  for (const one of adapters) {
    if (known.has(one.job)) continue;
    const job = jobs.find((other) => other.id === one.job) ?? null;
    found.push({
      id: one.job ?? one.id,
      name: one.name,
      about: one.source === "upload" ? "uploaded" : (STATES[job?.state] ?? "finished"),
      job,
    });
  }
  if (found.length > 0)
    found.push({
      id: "latest",
      name: "latest",
      about: running ? "the running job" : "the newest job",
      job: live[0] ?? jobs.find((job) => job.adapter) ?? null,
    });
  return found;
}

/**
 * Example prompts: one row of each label, from the first 100 validation rows of a job. If these all have one label, the
 * training rows are used.
 * @param {Object} job A job with a task.
 * @param {AbortSignal} signal
 * @returns {Promise<string[]>}
 */
export async function examplePrompts(job, signal) {
  const template = encodeURIComponent("{text}");
  const ofEach = async (dataset) => {
    const path = `/datasets/${dataset}/preview?rows=100&template=${template}`;
    const { rows } = await get(path, { signal }).catch(() => ({ rows: [] }));
    const labelled = rows.map(({ segments }) => [segments.find((one) => one.target)?.text, segments[0].text]);
    return [...new Map(labelled).values()];
  };
  const validation = job.validation ? await ofEach(job.validation) : [];
  return validation.length > 1 ? validation : ofEach(job.dataset);
}
