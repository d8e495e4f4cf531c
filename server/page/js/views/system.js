/** What the server runs on, what it is at, and how programs talk to it. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { bytes, count, duration, whole } from "../format.js";
import { forgetKey, key } from "../key.js";
import { examples } from "../parts/examples.js";
import { faults, head, meter, segments, snippet } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { STATES } from "../words.js";

const LOOK_MS = 3000;

/** @param {{place: HTMLElement, signal: AbortSignal}} context */
export function showSystem({ place, signal }) {
  const cards = h("div", { class: "stack" }, h("p", { class: "muted" }, "Asking the server…"));
  place.append(
    head("System", { about: "What it runs on, and how programs talk to it." }),
    h("div", { class: "stack" }, cards, usage(signal)),
  );
  const look = async () => {
    try {
      replace(cards, shown(await get("/system", { signal })));
    } catch (error) {
      if (error.name !== "AbortError") replace(cards, faults(error));
    }
  };
  poll(look, LOOK_MS, signal);
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
      " The base is loaded, the device works, disk and database take writes.",
    );
  return faults({
    message: base ? `Not ready: ${objection.detail}.` : `Getting ready: ${objection.detail}.`,
    hint: objection.hint,
  });
}

function device({ device: found, base, started }) {
  const rows = [
    ["Device", found.kind === "cuda" ? found.name : `CPU, ${count(found.threads, "thread")}`],
    ["Base", base ? base.name : "loading"],
    base && ["Kept in", `${base.quantization}, computes in ${base.compute_dtype}`],
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
    where.kind === "cuda" ? "Memory of the GPU" : "Memory",
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
          `data here ${bytes(disk.held)}${disk.quota ? ` of ${bytes(disk.quota)}` : ""}`,
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
    ["Prompts answered now", whole(found.answering_prompts)],
    ["Prompts waiting", `${whole(found.waiting_prompts)} of ${whole(limits.waiting_prompts)}`],
    ["Readers of events", whole(found.event_readers)],
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
      examples(location.origin, language, names).map(([title, code]) =>
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
      ? "This server asks for no key. Where it does, it is read from STEERZO_API_KEY."
      : "The key is read from STEERZO_API_KEY, so that it stands in no script.";
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
    h("div", { class: "row wide" }, h("h2", {}, "From programs"), tabs),
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
