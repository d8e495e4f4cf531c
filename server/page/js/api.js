/** Requests to the server, and its errors. */

import { askForKey, key } from "./key.js";

/** An error that the server answered with, or a missing answer. */
export class Problem extends Error {
  /** @param {Object} document The error as JSON (RFC 9457). */
  constructor(document) {
    super(document.detail);
    /** @type {number} The HTTP status; 0 if the server could not be reached. */
    this.status = document.status;
    /** @type {string} */
    this.code = document.code;
    /** @type {string} What to do next. */
    this.hint = document.hint ?? "";
    /** @type {Array<{where: string, field: string, found: string, fix: string}>} */
    this.errors = document.errors ?? [];
  }
}

/** @returns {Object<string, string>} The header with the API key, if there is a key. */
export function credentials() {
  return key() === null ? {} : { Authorization: `Bearer ${key()}` };
}

/**
 * Sends a request. If the server requires a key, the user is asked for it and the request is sent again.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, signal?: AbortSignal, headers?: Object<string, string>}} [options] `body` is sent as JSON.
 * @returns {Promise<Response>} An answer with a 2xx status; others are thrown as a Problem.
 */
export async function send(method, path, { body, signal, headers = {} } = {}) {
  for (;;) {
    const tried = key();
    const init = { method, signal, headers: { ...credentials(), ...headers } };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers["Content-Type"] = "application/json";
    }
    const response = await fetched(path, init);
    if (response.ok) return response;
    if (response.status !== 401) throw new Problem(await documentOf(response));
    await askForKey(tried);
  }
}

/** @param {string} path @param {Object} [options] See `send`. @returns {Promise<any>} The JSON of the answer. */
export async function get(path, options) {
  return (await send("GET", path, options)).json();
}

/** @param {string} path @param {any} [body] @param {Object} [options] @returns {Promise<any>} */
export async function post(path, body, options = {}) {
  return (await send("POST", path, { ...options, body })).json();
}

/** @param {string} path @returns {Promise<void>} */
export async function remove(path) {
  await send("DELETE", path);
}

/**
 * Downloads a file. Without a key the browser streams it to the disk; with a key it is held in memory first, because
 * a link cannot send the header.
 * @param {string} path
 * @param {string} name The file's name.
 */
export async function download(path, name) {
  const link = document.createElement("a");
  link.download = name;
  if (key() === null) {
    link.href = path;
    link.click();
    return;
  }
  link.href = URL.createObjectURL(await (await send("GET", path)).blob());
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {Response|{status: number, text: () => Promise<string>}} response @returns {Promise<Object>} */
export async function documentOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return {
      status: response.status,
      code: "unexpected",
      detail: `The server answered ${response.status}.`,
      hint: "Look into the server's log.",
    };
  }
}

async function fetched(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      status: 0,
      code: "unreachable",
      detail: "The server does not answer.",
      hint: "Is it still running? After a restart, jobs continue where they stopped.",
    });
  }
}
