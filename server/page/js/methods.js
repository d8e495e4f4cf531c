/** The methods that the server knows: their names, their default settings, and what a step costs. */

import { get } from "./api.js";

let request = null;

/**
 * A method as GET /methods describes it.
 * @typedef {{kind: string, name: string, about: string, automatic_rate: string, settings: Object<string, any>,
 *   forwards: number, forwards_per_candidate: number}} Method
 */

/**
 * Asks the server for its methods. The first answer is kept until the page is loaded again.
 * @returns {Promise<Map<string, Method>>} By kind.
 */
export function loadMethods() {
  request ??= get("/methods").then(
    ({ methods }) => new Map(methods.map((method) => [method.kind, method])),
    (error) => {
      request = null;
      throw error;
    },
  );
  return request;
}

/**
 * The name of a method.
 * @param {Map<string, Method>} methods
 * @param {string} kind A job of an older server may have a kind that is missing in `methods`: it is shown as it is.
 * @returns {string}
 */
export function methodName(methods, kind) {
  return methods.get(kind)?.name ?? kind;
}

/**
 * Forward passes of one step.
 * @param {Map<string, Method>} methods
 * @param {Object} settings The `method` section of a profile.
 * @returns {number|null} Null if the kind is missing in `methods`.
 */
export function forwardsPerStep(methods, settings) {
  const method = methods.get(settings.kind);
  if (method === undefined) return null;
  const more = (settings.pool ?? method.settings.pool) - method.settings.pool;
  return method.forwards + (Number.isFinite(more) ? more * method.forwards_per_candidate : 0);
}
