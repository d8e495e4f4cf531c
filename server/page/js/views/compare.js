/** The view that compares jobs: their curves on the same charts. */

import { get } from "../api.js";
import { chart, joined } from "../chart.js";
import { h, replace } from "../dom.js";
import { FINAL } from "../follow.js";
import { percent, plain, whole, wholePercent } from "../format.js";
import { loadMethods, methodName } from "../methods.js";
import { badge, empty, problemBox, head, segments } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { AXES, AXIS_CHOICES, Series, smooth } from "../series.js";
import { score } from "../words.js";

const MOST_JOBS = 6;
const COLORS = ["c1", "c2", "c3", "c4", "c5", "c6"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 2]];
const POINTS = 800;

/** @param {{place: HTMLElement, signal: AbortSignal, query: URLSearchParams}} context */
export async function showCompare({ place, signal, query }) {
  const wanted = (query.get("jobs") ?? "").split(",").filter(Boolean).slice(0, MOST_JOBS);
  const body = h("div", { class: "stack" });
  const about = `Up to ${MOST_JOBS} jobs on the same axes.`;
  place.append(head("Compare", { about, trail: ["#/jobs", "Jobs"] }), body);
  try {
    const [{ jobs }, methods] = await Promise.all([get("/jobs?limit=200", { signal }), loadMethods()]);
    if (jobs.length < 2) {
      replace(
        body,
        h(
          "div",
          { class: "card" },
          empty(
            "jobs",
            "There is nothing to compare yet",
            "A comparison needs two jobs: for example another method, another seed or more steps.",
            h("a", { class: "button main", href: "#/start" }, "Start another job"),
          ),
        ),
      );
      return;
    }
    const known = wanted.filter((id) => jobs.some((job) => job.id === id));
    body.append(picker(jobs, known));
    if (known.length > 0) draw(body, known, methods, signal);
  } catch (error) {
    if (error.name !== "AbortError") replace(body, problemBox(error));
  }
}

function picker(jobs, chosen) {
  const change = (id, is) => {
    const next = is ? [...chosen, id].slice(-MOST_JOBS) : chosen.filter((one) => one !== id);
    location.hash = `#/compare?jobs=${next.join(",")}`;
  };
  const box = (job) =>
    h(
      "label",
      { class: "check pickone" },
      h("input", {
        type: "checkbox",
        checked: chosen.includes(job.id),
        onChange: (event) => change(job.id, event.target.checked),
      }),
      h("span", {}, job.name),
    );
  return h(
    "details",
    { class: "card", open: chosen.length < 2 },
    h("summary", {}, chosen.length < 2 ? "Choose two or more jobs" : "Other jobs"),
    h("div", { class: "picks" }, jobs.map(box)),
  );
}

function draw(body, ids, methods, signal) {
  let axis = "forwards";
  const held = new Map(ids.map((id) => [id, { job: null, series: new Series() }]));
  const places = { loss: h("div"), quality: h("div") };
  const rows = h("tbody");
  const heads = ["Job", "State", "Method", "Steps", "Forward passes", "Loss", "Score"].map((text, index) =>
    h("th", { scope: "col", class: index > 2 ? "num" : "" }, text),
  );
  let charts = null;
  const axes = segments(
    "Draw over",
    AXIS_CHOICES,
    axis,
    (value) => ((axis = value), paint()),
    "small",
  );
  body.append(
    h(
      "div",
      { class: "row wide" },
      h(
        "span",
        { class: "muted small" },
        "Jobs with the same number of forward passes have done the same amount of work.",
      ),
      axes,
    ),
    places.loss,
    places.quality,
    h("div", { class: "card flush" }, h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads)), rows)),
  );

  const paint = () => {
    const all = ids.map((id) => held.get(id)).filter((one) => one.job !== null);
    if (all.length < ids.length) return;
    charts ??= make(all, places);
    charts.loss.draw(
      joined(
        ...all.map(({ series }) => {
          const [x, losses] = series.table(axis, "loss");
          return [x, smooth(losses)];
        }),
      ),
      AXES[axis],
    );
    charts.quality.draw(
      joined(...all.map(({ series }) => series.evalTable(axis, (one) => score(one.metrics ?? one)?.value ?? null))),
      AXES[axis],
    );
    replace(
      rows,
      all.map(({ job, series }, index) => line(job, series, methods, index)),
    );
  };
  const update = async () => {
    for (const id of ids) {
      const one = held.get(id);
      if (one.job !== null && FINAL.has(one.job.state)) continue;
      try {
        const [job, series] = await Promise.all([
          get(`/jobs/${id}`, { signal }),
          get(`/jobs/${id}/metrics?points=${POINTS}`, { signal }),
        ]);
        one.series.load(series);
        one.job = job;
      } catch (error) {
        if (error.name === "AbortError") return;
      }
    }
    paint();
  };
  poll(update, 2500, signal);
}

function make(all, places) {
  const lines = (points, format) =>
    all.map(({ job }, index) => ({
      label: job.name,
      color: COLORS[index],
      dash: DASHES[index],
      points,
      format,
      tick: format && wholePercent,
    }));
  const loss = chart({ title: "Training loss", large: true, height: 280, sync: "compare", lines: lines(false) });
  const quality = chart({
    title: "Validation",
    large: true,
    height: 220,
    sync: "compare",
    range: [0, 1],
    lines: lines(true, percent),
    nothing: "None of these jobs has a validation score yet.",
  });
  replace(places.loss, loss.element);
  replace(places.quality, quality.element);
  return { loss, quality };
}

function line(job, series, methods, index) {
  const found = score(job.metrics);
  const cells = {
    Steps: whole(job.step),
    "Forward passes": whole(job.forwards),
    Loss: plain(series.last?.loss ?? job.loss),
    Score: found ? percent(found.value) : plain(job.metrics.loss),
  };
  return h(
    "tr",
    {},
    h(
      "td",
      {},
      h("i", { class: "swatch", style: { background: `var(--${COLORS[index]})` } }),
      h("a", { class: "name", href: `#/jobs/${job.id}` }, job.name),
    ),
    h("td", {}, badge(job)),
    h("td", { class: "method" }, methodName(methods, job.profile.method.kind)),
    Object.entries(cells).map(([label, text]) => h("td", { class: "num", data: { label } }, text)),
  );
}
