/** Views by the hash: "#/jobs/job_1?x=forwards". One is shown at a time; what it began ends when it goes. */

import { replace } from "./dom.js";

/**
 * Shows the view that the hash names, now and whenever it changes.
 * @param {HTMLElement} place Where views are shown.
 * @param {Array<[RegExp, (context: {place: HTMLElement, signal: AbortSignal, words: string[], query: URLSearchParams})
 *   => void|Promise<void>]>} routes The first pattern that fits the path decides; its groups become `words`.
 * @param {(path: string) => void} changed Told about every change.
 */
export function route(place, routes, changed) {
  let leave = new AbortController();
  let first = true;
  const show = () => {
    if (!first && location.hash && !location.hash.startsWith("#/")) return;
    leave.abort();
    leave = new AbortController();
    const [path, query] = (location.hash.slice(1) || "/jobs").split("?");
    const found = routes.find(([pattern]) => pattern.test(path)) ?? routes[0];
    const words = (path.match(found[0]) ?? []).slice(1).map(decodeURIComponent);
    replace(place);
    changed(path);
    scrollTo(0, 0);
    found[1]({ place, signal: leave.signal, words, query: new URLSearchParams(query) });
    // A new view is read from its beginning; the first one is where a reader starts anyway.
    if (!first) place.focus();
    first = false;
  };
  addEventListener("hashchange", show);
  show();
}
