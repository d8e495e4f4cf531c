/** The system view: device, memory, disk, queue and versions of the server, and code examples for its API. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, duration, whole } from "../format.js";
import { forgetKey, key } from "../key.js";
import { apiExamples } from "../parts/apiexamples.js";
import { problemBox, head, meter, segments, snippet } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { STATES } from "../words.js";

const POLL_MS = 3000;

/** @param {{place: HTMLElement, signal: AbortSignal}} context */
export function showSystem({ place, signal }) {
  const cards = h("div", { class: "stack" }, h("p", { class: "muted" }, "Loading…"));
  place.append(
    head("System", { about: "The machine this server runs on, and examples for its API." }),
    h("div", { class: "stack" }, cards, usage(signal)),
  );
  const update = async () => {
    try {
      replace(cards, shown(await get("/system", { signal })));
    } catch (error) {
      if (error.name !== "AbortError") replace(cards, problemBox(error));
    }
  };
  poll(update, POLL_MS, signal);
}

function shown(system) {
  return [
    ready(system),
    h("div", { class: "thirds" }, device(system), memory(system), queue(system), versions(system)),
  ];
}

function ready({ objection, base }) {
  if (objection === null)
    return h(
      "p",
      { class: "card ready" },
      h("span", { class: "dot on" }),
      h("b", {}, "Ready."),
      " The base model is loaded, the device works, and the disk and the database can be written.",
    );
  return problemBox({
    message: base ? `Not ready: ${objection.detail}.` : `Getting ready: ${objection.detail}.`,
    hint: objection.hint,
  });
}

function device({ device: found, base, started }) {
  const rows = [
    ["Device", found.kind === "cuda" ? found.name : `CPU, ${count(found.threads, "thread")}`],
    ["Base model", base ? base.name : "loading"],
    base && ["Weights", `stored as ${base.quantization}, computed in ${base.compute_dtype}`],
    base && ["Context", count(base.context_length, "token")],
    base && ["Chat", base.chat ? "has a template" : "no template: plain text only"],
    ["Up for", duration(Date.now() / 1000 - started)],
  ];
  return card("Device", facts(rows));
}

function memory({ memory: found, disk, device: where }) {
  const used = found.total - found.free;
  const disks = disk.total - disk.free;
  return card(
    where.kind === "cuda" ? "GPU memory" : "Memory",
    h(
      "div",
      { class: "stack tightly" },
      h(
        "div",
        { class: "row wide" },
        h("span", {}, `${bytes(used)} of ${bytes(found.total)} used`),
        h("span", { class: "muted small" }, `this server ${bytes(found.used)}`),
      ),
      meter(used / found.total, "Memory used"),
      h("h3", {}, "Disk"),
      h(
        "div",
        { class: "row wide" },
        h("span", {}, `${bytes(disk.free)} free`),
        h(
          "span",
          { class: "muted small" },
          `server data ${bytes(disk.held)}${disk.quota ? ` of ${bytes(disk.quota)}` : ""}`,
        ),
      ),
      meter(disks / disk.total, "Disk used"),
    ),
  );
}

function queue({ queue: found, limits }) {
  const states = Object.keys(STATES).filter((state) => found.jobs[state]);
  const rows = [
    ...(states.length
      ? states.map((state) => [`Jobs ${STATES[state]}`, whole(found.jobs[state])])
      : [["Jobs", "none yet"]]),
    ["Prompts in progress", whole(found.answering_prompts)],
    ["Prompts waiting", `${whole(found.waiting_prompts)} of ${whole(limits.waiting_prompts)}`],
    ["Open event streams", whole(found.event_readers)],
  ];
  return card("Queue", facts(rows));
}

function versions({ version, versions: found }) {
  return card("Versions", facts([["steerzo-edge", version], ...Object.entries(found)]));
}

function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), content);
}

function facts(rows) {
  return h(
    "dl",
    { class: "facts" },
    rows.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

function usage(signal) {
  const place = h("div", { class: "stack" });
  let language = "curl";
  let names = { job: "latest", base: "bundled" };
  const show = () =>
    replace(
      place,
      apiExamples(location.origin, language, names).map(([title, code]) =>
        h("div", {}, h("h3", {}, title), snippet(code, title)),
      ),
    );
  const tabs = segments(
    "Language",
    [
      ["curl", "curl"],
      ["python", "Python"],
      ["openai", "openai"],
    ],
    language,
    (value) => ((language = value), show()),
  );
  show();
  get("/jobs?limit=20", { signal }).then(
    ({ jobs }) => {
      const made = jobs.find((job) => job.adapter);
      if (made) names = { ...names, job: made.name };
      show();
    },
    () => {},
  );
  const about =
    key() === null
      ? "This server requires no API key. For servers that do, the examples read it from the environment variable STEERZO_API_KEY."
      : "The examples read the API key from the environment variable STEERZO_API_KEY, so that no script contains it.";
  const forget =
    key() !== null &&
    h(
      "button",
      { class: "button tight", type: "button", onClick: () => (forgetKey(), location.reload()) },
      "Forget the key in this tab",
    );
  return h(
    "section",
    { class: "card stack" },
    h("div", { class: "row wide" }, h("h2", {}, "Use it from programs"), tabs),
    h(
      "p",
      { class: "muted" },
      about,
      " ",
      h("a", { href: "/openapi.json", download: "openapi.json" }, "openapi.json"),
      " describes every route.",
    ),
    place,
    forget,
  );
}
