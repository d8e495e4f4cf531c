/** The bundled rows, uploaded like any others. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { doing } from "../notes.js";
import { rememberTask } from "../tasks.js";
import { upload } from "../upload.js";

/**
 * A button that uploads the bundled example.
 * @param {(dataset: Object) => void} done
 * @returns {HTMLElement}
 */
export function exampleButton(done) {
  const act = doing(async () => {
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
