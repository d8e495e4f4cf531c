/** Who can answer a prompt, and what to ask them first. */

import { get } from "./api.js";
import { STATES } from "./words.js";

/**
 * Who can answer beside the base: running jobs by their steps so far, and what is kept.
 * @param {Object[]} adapters As the API lists them.
 * @param {Object[]} jobs
 * @returns {Array<{id: string, name: string, about: string, job: Object|null}>}
 */
export function choices(adapters, jobs) {
  const live = jobs.filter((job) => ["running", "paused"].includes(job.state));
  const running = live.some((job) => job.state === "running");
  const found = live.map((job) => ({
    id: job.id,
    name: job.name,
    about: job.state === "running" ? "learning now" : "paused",
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
      about: running ? "the job that runs" : "the newest job",
      job: live[0] ?? jobs.find((job) => job.adapter) ?? null,
    });
  return found;
}

/**
 * Prompts to begin with: one row of each label, from those a job is judged by, unless their file begins with many of
 * one label.
 * @param {Object} job With a task.
 * @param {AbortSignal} signal
 * @returns {Promise<string[]>}
 */
export async function ideasOf(job, signal) {
  const template = encodeURIComponent("{text}");
  const ofEach = async (dataset) => {
    const path = `/datasets/${dataset}/preview?rows=100&template=${template}`;
    const { rows } = await get(path, { signal }).catch(() => ({ rows: [] }));
    const labelled = rows.map(({ segments }) => [segments.find((one) => one.target)?.text, segments[0].text]);
    return [...new Map(labelled).values()];
  };
  const judged = job.validation ? await ofEach(job.validation) : [];
  return judged.length > 1 ? judged : ofEach(job.dataset);
}
