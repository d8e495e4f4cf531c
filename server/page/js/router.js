/** Shows the view that the URL's hash names: "#/jobs/job_1?x=forwards". Leaving a view aborts its requests. */

import { replace } from "./dom.js";

/**
 * Shows the view that the hash names, now and whenever it changes.
 * @param {HTMLElement} place The element that holds the view.
 * @param {Array<[RegExp, (context: {place: HTMLElement, signal: AbortSignal, words: string[], query: URLSearchParams})
 *   => void|Promise<void>]>} routes The view of the first pattern that matches the path is shown; the groups of the
 *   pattern become `words`.
 * @param {(path: string) => void} changed Called with the path at every change.
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
    // The focus moves to a new view, so that screen readers start at its beginning; the first view needs no move.
    if (!first) place.focus();
    first = false;
  };
  addEventListener("hashchange", show);
  show();
}
