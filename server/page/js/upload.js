/** Uploads a dataset. XMLHttpRequest is used because fetch does not report the progress of an upload. */

import { Problem, credentials, documentOf } from "./api.js";
import { askForKey, key } from "./key.js";

/**
 * Uploads a dataset.
 * @param {File} file
 * @param {Object<string, string>} fields `name`, `format`, `task`, `map`; empty ones are left out.
 * @param {(share: number) => void} progress Called with the share of bytes sent; 1 while the server checks the rows.
 * @returns {Promise<Object>} The dataset.
 */
export async function upload(file, fields, progress) {
  for (;;) {
    const tried = key();
    const response = await sent(file, fields, progress);
    const document = await documentOf(response);
    if (response.status < 300) return document;
    if (response.status !== 401) throw new Problem(document);
    await askForKey(tried);
  }
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
