/** Calls a function repeatedly while the tab is visible. */

/**
 * Calls `update` at once and then after each pause; not while the tab is hidden, and never twice at the same time.
 * @param {() => Promise<number|void>} update May return the milliseconds until the next call.
 * @param {number} pauseMs Milliseconds between two calls otherwise.
 * @param {AbortSignal} signal Ends the calls.
 * @returns {() => void} Calls `update` now.
 */
export function poll(update, pauseMs, signal) {
  let timer = 0;
  let busy = false;
  let again = false;
  const turn = async () => {
    if (signal.aborted) return;
    clearTimeout(timer);
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    let next = pauseMs;
    try {
      if (!document.hidden) next = (await update()) ?? pauseMs;
    } finally {
      busy = false;
      if (!signal.aborted) timer = setTimeout(turn, again ? 0 : next);
      again = false;
    }
  };
  const onVisibility = () => document.hidden || turn();
  document.addEventListener("visibilitychange", onVisibility);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisibility);
  });
  turn();
  return turn;
}
