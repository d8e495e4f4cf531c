/** A job's events for as long as somebody looks, across broken connections and restarts of the server. */

import { send } from "./api.js";
import { eventsOf } from "./sse.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** Told when something else has reached the server: nobody needs to wait any longer. */
export const reached = new EventTarget();

export const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/**
 * Follows a job until it ends or the signal says stop.
 * @param {string} job Its id.
 * @param {{after: number, onEvent: (event: {event: string, data: any}) => void,
 *   onLink: (isUp: boolean, retryMs: number) => void, signal: AbortSignal}} options `after` is the last step that is
 *   known, -1 for none. Events that are no steps may come twice after a reconnection.
 */
export async function follow(job, { after, onEvent, onLink, signal }) {
  let last = after;
  let wait = FIRST_WAIT_MS;
  let ended = false;
  while (!ended && !signal.aborted) {
    try {
      const headers = last < 0 ? {} : { "Last-Event-ID": String(last) };
      const response = await send("GET", `/jobs/${job}/events`, { headers, signal });
      onLink(true, 0);
      for await (const event of eventsOf(response)) {
        wait = FIRST_WAIT_MS;
        if (event.event === "step") last = Number(event.id);
        if (event.event === "state") ended = FINAL.has(event.data.state);
        onEvent(event);
      }
    } catch (error) {
      if (signal.aborted || error.status === 404) return;
    }
    if (ended || signal.aborted) return;
    onLink(false, wait);
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      reached.removeEventListener("reached", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    reached.addEventListener("reached", end);
    signal.addEventListener("abort", end);
  });
}
