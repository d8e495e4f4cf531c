/** Requests to the server; its errors as they are told to people. */

import { askForKey, key } from "./key.js";

/** An answer that is an error, or none at all. */
export class Problem extends Error {
  /** @param {Object} document As RFC 9457 has it. */
  constructor(document) {
    super(document.detail);
    /** @type {number} 0 where the server could not be reached. */
    this.status = document.status;
    /** @type {string} */
    this.code = document.code;
    /** @type {string} What to do next. */
    this.hint = document.hint ?? "";
    /** @type {Array<{where: string, field: string, found: string, fix: string}>} */
    this.errors = document.errors ?? [];
  }
}

/** @returns {Object<string, string>} Headers that open the door. */
export function credentials() {
  return key() === null ? {} : { Authorization: `Bearer ${key()}` };
}

/**
 * A request; where a key is asked for, so is the user, and then it is sent again.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, signal?: AbortSignal, headers?: Object<string, string>}} [options] `body` is sent as JSON.
 * @returns {Promise<Response>} Never an error: those are thrown as a Problem.
 */
export async function send(method, path, { body, signal, headers = {} } = {}) {
  for (;;) {
    const tried = key();
    const init = { method, signal, headers: { ...credentials(), ...headers } };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers["Content-Type"] = "application/json";
    }
    const response = await reached(path, init);
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
 * Fetches a file and has the browser keep it. Without a key the browser does it by itself, however large it is.
 * @param {string} path
 * @param {string} name
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
      hint: "Its log may say more.",
    };
  }
}

async function reached(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      status: 0,
      code: "unreachable",
      detail: "The server does not answer.",
      hint: "Is it still running? Jobs go on where they were when it is started again.",
    });
  }
}
