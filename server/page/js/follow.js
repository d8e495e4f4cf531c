/** Reads the events of a job, and reconnects after broken connections and restarts of the server. */

import { send } from "./api.js";
import { eventsOf } from "./sse.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** Other requests dispatch "reached" here when the server has answered: then `follow` reconnects at once. */
export const serverReached = new EventTarget();

export const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/**
 * Reads the events of a job until it ends or the signal aborts.
 * @param {string} job Its id.
 * @param {{after: number, onEvent: (event: {event: string, data: any}) => void,
 *   onLink: (isUp: boolean, retryMs: number) => void, signal: AbortSignal}} options `after` is the last step that
 *   is known, -1 for none. After a reconnection, events other than steps may come a second time.
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
      serverReached.removeEventListener("reached", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    serverReached.addEventListener("reached", end);
    signal.addEventListener("abort", end);
  });
}
