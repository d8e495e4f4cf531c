/** Remembers the task (prompt template and answers) last used with each dataset, to fill in forms with it. */

import { get } from "./api.js";

const PLACE = "steerzo-tasks";

/** @param {string} dataset Its id. @param {Object} task As POST /jobs takes it. */
export function rememberTask(dataset, task) {
  const all = JSON.parse(sessionStorage.getItem(PLACE) ?? "{}");
  sessionStorage.setItem(PLACE, JSON.stringify({ ...all, [dataset]: task }));
}

/**
 * The task of a dataset: the one last used in this tab, or else that of its newest job.
 * @param {string} dataset Its id.
 * @returns {Promise<Object|null>}
 */
export async function taskOf(dataset) {
  const own = JSON.parse(sessionStorage.getItem(PLACE) ?? "{}")[dataset];
  if (own) return own;
  const { jobs } = await get("/jobs?limit=50");
  return jobs.find((job) => job.dataset === dataset && job.task)?.task ?? null;
}
