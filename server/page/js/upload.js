/** Uploads a dataset. XMLHttpRequest is used because fetch does not report the progress of an upload. */

import { Problem, credentials, documentOf } from "./api.js";
import { askForKey, key } from "./key.js";

const FIRST_BYTES = 256 << 10;

/**
 * Uploads a dataset.
 * @param {File} file
 * @param {Object<string, string>} fields `name`, `format`, `task`, `map`; empty ones are left out.
 * @param {(share: number) => void} progress Called with the share of bytes sent; 1 while the server checks the rows.
 * @returns {Promise<Object>} The dataset.
 */
export function upload(file, fields, progress) {
  return answered(() => sent(file, fields, progress));
}

/**
 * The fields of a file, and its first rows as they would be trained on; only its first lines are sent if it is text.
 * @param {File} file
 * @param {Object<string, string>} fields `format`, `map`; empty ones are left out.
 * @returns {Promise<Object>}
 */
export async function look(file, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  form.append("file", await beginning(file), file.name);
  return answered(() => fetch("/datasets/preview", { method: "POST", body: form, headers: credentials() }));
}

/** The document of the answer; without a valid key one is asked for, and the request is sent again. */
async function answered(send) {
  for (;;) {
    const tried = key();
    const response = await send();
    const document = await documentOf(response);
    if (response.status < 300) return document;
    if (response.status !== 401) throw new Problem(document);
    await askForKey(tried);
  }
}

async function beginning(file) {
  if (file.size <= FIRST_BYTES || !/\.(jsonl|csv|tsv)$/i.test(file.name)) return file;
  const bytes = new Uint8Array(await file.slice(0, FIRST_BYTES).arrayBuffer());
  const end = /\.jsonl$/i.test(file.name) ? bytes.lastIndexOf(10) : endOfRows(bytes);
  return end < 0 ? file : file.slice(0, end + 1);
}

/** The last newline of CSV that is not inside a quoted cell: the count of quotes before it is even. */
function endOfRows(bytes) {
  let end = -1;
  let quoted = false;
  for (let place = 0; place < bytes.length; place++) {
    if (bytes[place] === 34) quoted = !quoted;
    else if (bytes[place] === 10 && !quoted) end = place;
  }
  return end;
}

function sent(file, fields, progress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  form.append("file", file);
  const request = new XMLHttpRequest();
  request.open("POST", "/datasets");
  for (const [name, value] of Object.entries(credentials())) request.setRequestHeader(name, value);
  request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
  return new Promise((resolve, reject) => {
    request.addEventListener("load", () =>
      resolve({ status: request.status, text: async () => request.responseText }),
    );
    request.addEventListener("error", () =>
      reject(
        new Problem({
          status: 0,
          code: "unreachable",
          detail: "The upload was interrupted.",
          hint: "Is the server still running? The file may also be larger than the server allows.",
        }),
      ),
    );
    request.send(form);
  });
}
