/** What can be done with a job, as buttons that come and go with its state. */

import { download, post, remove } from "../api.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { announce, doing, note } from "../notes.js";
import { sure } from "./pieces.js";

const CAN = {
  pause: (job) => ["running", "queued"].includes(job.state) && job.requested === null,
  resume: (job) => job.state === "paused" || job.state === "failed" || job.requested === "pause",
  cancel: (job) => ["running", "queued", "paused"].includes(job.state) && job.requested !== "cancel",
  download: (job) => job.adapter !== null,
  delete: (job) => ["succeeded", "failed", "cancelled", "paused", "queued"].includes(job.state),
};

/**
 * The buttons of a job.
 * @param {Object} first The job.
 * @param {{changed: () => void, deleted?: () => void, words?: boolean}} options `words` shows names beside drawings
 *   and offers to delete, where `deleted` says what comes then.
 * @returns {{element: HTMLElement, update: (job: Object) => void}}
 */
export function actionsOf(first, { changed, deleted, words = false }) {
  const name = first.name;
  const ask = (verb) =>
    doing(async () => {
      await post(`/jobs/${first.id}/${verb}`);
      announce(`Asked ${name} to ${verb}.`);
      changed();
    });
  const cancel = async (event) => {
    if (
      await sure(
        `Cancel ${name}?`,
        "It ends for good. What it has learned so far is kept as its adapter.",
        "Cancel the job",
      )
    )
      await ask("cancel")(event);
  };
  const fetchIt = doing(async () => {
    note(`Fetching the adapter of ${name}…`);
    await download(`/jobs/${first.id}/adapter`, `${first.id}.zip`);
  });
  const bin = doing(async () => {
    if (
      !(await sure(
        `Delete ${name}?`,
        "Its adapter, its journal and its curves are lost. The dataset stays.",
        "Delete the job",
      ))
    )
      return;
    await remove(`/jobs/${first.id}`);
    note(`Deleted ${name}.`);
    deleted();
  });
  const buttons = {
    pause: button("pause", "Pause", name, ask("pause"), words),
    resume: button("resume", "Resume", name, ask("resume"), words),
    cancel: button("stop", "Cancel", name, kept(cancel), words),
    download: button("download", "Download", name, fetchIt, words),
    ...(deleted ? { delete: button("bin", "Delete", name, bin, words) } : {}),
  };
  const update = (job) => {
    for (const [verb, one] of Object.entries(buttons)) one.hidden = !CAN[verb](job);
  };
  return { element: h("div", { class: "row acts" }, Object.values(buttons)), update };
}

function button(drawing, text, name, onClick, words) {
  const props = {
    class: words ? "button" : "button quiet icon",
    type: "button",
    onClick,
    "aria-label": `${text} ${name}`,
    title: words ? null : text,
  };
  return h("button", props, icon(drawing, 16), words && text);
}

/** A listener whose event is still there after a dialog: `currentTarget` is gone by then. */
function kept(act) {
  return (event) => act({ currentTarget: event.currentTarget });
}
