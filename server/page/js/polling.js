/** Asking again and again while somebody looks at the answer. */

/**
 * Calls something at once and then after each rest, not while the tab is hidden and never twice at a time.
 * @param {() => Promise<number|void>} look May return the milliseconds until the next look.
 * @param {number} rest Milliseconds between looks otherwise.
 * @param {AbortSignal} signal Ends it.
 * @returns {() => void} Looks now.
 */
export function poll(look, rest, signal) {
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
    let next = rest;
    try {
      if (!document.hidden) next = (await look()) ?? rest;
    } finally {
      busy = false;
      if (!signal.aborted) timer = setTimeout(turn, again ? 0 : next);
      again = false;
    }
  };
  const seen = () => document.hidden || turn();
  document.addEventListener("visibilitychange", seen);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  });
  turn();
  return turn;
}
