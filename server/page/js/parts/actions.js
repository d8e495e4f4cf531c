/** The buttons of a job: which of them are shown depends on its state. */

import { download, post, remove } from "../api.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { announce, asyncListener, showMessage } from "../messages.js";
import { confirmed } from "./pieces.js";

const ALLOWED = {
  pause: (job) => ["running", "queued"].includes(job.state) && job.requested === null,
  resume: (job) => job.state === "paused" || job.state === "failed" || job.requested === "pause",
  cancel: (job) => ["running", "queued", "paused"].includes(job.state) && job.requested !== "cancel",
  download: (job) => job.adapter !== null,
  delete: (job) => ["succeeded", "failed", "cancelled", "paused", "queued"].includes(job.state),
};

/**
 * The buttons of a job.
 * @param {Object} first The job.
 * @param {{changed: () => void, deleted?: () => void, words?: boolean}} options `words` shows
 *   text beside the icons; with `deleted`, which is called after a deletion, there is a delete button.
 * @returns {{element: HTMLElement, update: (job: Object) => void}}
 */
export function actionsOf(first, { changed, deleted, words = false }) {
  const name = first.name;
  const ask = (verb) =>
    asyncListener(async () => {
      await post(`/jobs/${first.id}/${verb}`);
      announce(`Request sent: ${verb} ${name}.`);
      changed();
    });
  const cancel = async (event) => {
    if (
      await confirmed(
        `Cancel ${name}?`,
        "A cancelled job cannot be resumed. The adapter is kept as trained so far.",
        "Cancel the job",
      )
    )
      await ask("cancel")(event);
  };
  const fetchAdapter = asyncListener(async () => {
    showMessage(`Downloading the adapter of ${name}…`);
    await download(`/jobs/${first.id}/adapter`, `${first.id}.zip`);
  });
  const deleteJob = asyncListener(async () => {
    if (
      !(await confirmed(
        `Delete ${name}?`,
        "Its adapter, journal and curves are deleted. The dataset is kept.",
        "Delete the job",
      ))
    )
      return;
    await remove(`/jobs/${first.id}`);
    showMessage(`Deleted ${name}.`);
    deleted();
  });
  const buttons = {
    pause: button("pause", "Pause", name, ask("pause"), words),
    resume: button("resume", "Resume", name, ask("resume"), words),
    cancel: button("stop", "Cancel", name, withTarget(cancel), words),
    download: button("download", "Download", name, fetchAdapter, words),
    ...(deleted ? { delete: button("bin", "Delete", name, deleteJob, words) } : {}),
  };
  const update = (job) => {
    for (const [verb, one] of Object.entries(buttons)) one.hidden = !ALLOWED[verb](job);
  };
  return { element: h("div", { class: "row acts" }, Object.values(buttons)), update };
}

function button(iconName, text, name, onClick, words) {
  const props = {
    class: words ? "button" : "button quiet icon",
    type: "button",
    onClick,
    "aria-label": `${text} ${name}`,
    title: words ? null : text,
  };
  return h("button", props, icon(iconName, 16), words && text);
}

/** A listener that keeps `currentTarget`, which the browser resets before a dialog is answered. */
function withTarget(act) {
  return (event) => act({ currentTarget: event.currentTarget });
}
