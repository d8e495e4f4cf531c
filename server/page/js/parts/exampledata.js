/** The example dataset that comes with the package. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { asyncListener } from "../messages.js";
import { rememberTask } from "../tasks.js";
import { upload } from "../upload.js";

/**
 * A button that uploads the example dataset.
 * @param {(dataset: Object) => void} done Called with the dataset after the upload.
 * @returns {HTMLElement}
 */
export function exampleDataButton(done) {
  const act = asyncListener(async () => {
    const example = await get("/example");
    const dataset = await upload(new File([example.lines], example.name), {}, () => {});
    rememberTask(dataset.id, example.task);
    done(dataset);
  });
  return h(
    "button",
    { class: "button tight", type: "button", onClick: act },
    "Use the example: 3,500 voice commands",
  );
}
