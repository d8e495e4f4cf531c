/** The view of one job: its charts, figures, log and actions, updated while it runs. */

import { get } from "../api.js";
import { h, replace, setText } from "../dom.js";
import { FINAL, follow, serverReached } from "../follow.js";
import { duration } from "../format.js";
import { forwardsPerStep, loadMethods } from "../methods.js";
import { announce } from "../messages.js";
import { actionsOf } from "../parts/actions.js";
import { jobCharts } from "../parts/jobcharts.js";
import { aboutJob, jobFigures } from "../parts/jobfigures.js";
import { jobLog } from "../parts/joblog.js";
import { badge, problemBox, head, meter, setMeter, segments } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { AXES, AXIS_CHOICES, POINTS, Series } from "../series.js";
import { stateOf } from "../words.js";

const DRAW_MS = 250;
const POLL_MS = 3000;

/** @param {{place: HTMLElement, signal: AbortSignal, words: string[], query: URLSearchParams}} context */
export async function showJob({ place, signal, words, query }) {
  try {
    const [job, methods] = await Promise.all([
      get(`/jobs/${encodeURIComponent(words[0])}`, { signal }),
      loadMethods(),
    ]);
    if (!signal.aborted) await live(place, signal, job, methods, query.get("x"));
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted)
      replace(place, head("Job", { trail: ["#/jobs", "Jobs"] }), problemBox(error));
  }
}

async function live(place, signal, first, methods, wantedAxis) {
  const series = new Series();
  let job = first;
  let axis = wantedAxis in AXES ? wantedAxis : "forwards";
  const charts = jobCharts(job, forwardsPerStep(methods, job.profile.method));
  const log = jobLog();
  const tiles = jobFigures();
  const state = h("span");
  const bar = meter(0, "Progress");
  const link = h("p", { class: "small", role: "status", hidden: true });
  const failure = h("div");
  const pollNow = () => update();
  const actions = actionsOf(job, { changed: pollNow, deleted: () => (location.hash = "#/jobs"), words: true });
  const tryIt = h("a", { class: "button main", href: `#/playground?adapter=${job.id}` }, "Try it");
  const compare = h("a", { class: "button", href: `#/compare?jobs=${job.id}` }, "Compare");
  const several = h("a", { class: "button", href: `#/try?job=${job.id}` }, "Try several settings");
  const sweep = job.sweep && h("a", { class: "button", href: `#/sweeps/${job.sweep}` }, "Its sweep");
  const axes = segments(
    "Draw over",
    AXIS_CHOICES,
    axis,
    (value) => {
      axis = value;
      charts.draw(series, axis);
    },
    "small",
  );

  replace(
    place,
    head(job.name, { trail: ["#/jobs", "Jobs"], about: [state], actions: [tryIt, sweep, several, compare, actions.element] }),
    h(
      "div",
      { class: "stack" },
      failure,
      h("div", { class: "card stack summary" }, bar, tiles.element, link),
      h(
        "div",
        { class: "row wide" },
        h(
          "span",
          { class: "muted small" },
          "Drag across a chart to zoom in; double-click to zoom out.",
        ),
        axes,
      ),
      charts.element,
      h("div", { class: "halves" }, log.element, aboutJob(job, methods)),
    ),
  );

  let stateNow = null;
  const showState = () => {
    const now = `${job.state} ${job.requested}`;
    if (now !== stateNow) {
      if (stateNow !== null) announce(`${job.name}: ${stateOf(job)}`);
      stateNow = now;
      replace(
        state,
        badge(job),
        job.waiting_for && job.state === "queued" && h("span", { class: "muted" }, ` for ${job.waiting_for}`),
      );
      replace(
        failure,
        job.error && problemBox({ ...job.error, message: job.error.detail, errors: job.error.errors ?? [] }),
      );
      tryIt.hidden = !job.adapter && !["running", "paused"].includes(job.state);
    }
    actions.update(job);
  };
  const refresh = () => {
    const done = series.last === null ? job.step : Math.max(job.step, series.last.step + 1);
    setMeter(bar, job.steps ? done / job.steps : 0, job.state);
    tiles.update(job, series, done);
    showState();
  };
  let isDrawPending = false;
  const drawSoon = () => {
    if (isDrawPending) return;
    isDrawPending = true;
    setTimeout(() => {
      isDrawPending = false;
      if (signal.aborted) return;
      charts.draw(series, axis);
      refresh();
    }, DRAW_MS);
  };

  const update = poll(
    async () => {
      try {
        job = await get(`/jobs/${job.id}`, { signal });
        const system = FINAL.has(job.state) ? null : await get("/system", { signal });
        if (system) tiles.memory(system.memory);
        refresh();
        if (!link.hidden) serverReached.dispatchEvent(new Event("reached"));
      } catch (error) {
        if (error.status === 404) replace(failure, problemBox(error));
      }
      return FINAL.has(job.state) ? 5 * POLL_MS : POLL_MS;
    },
    POLL_MS,
    signal,
  );

  const record = await get(`/jobs/${job.id}/metrics?points=${POINTS}`, { signal });
  if (signal.aborted) return;
  series.load(record);
  log.load(record.log);
  charts.draw(series, axis);
  refresh();
  // After a reconnection the stream may repeat log events; the list from the server has each of them once.
  let timer = 0;
  const reloadLog = () => {
    clearTimeout(timer);
    timer = setTimeout(
      () =>
        get(`/jobs/${job.id}/metrics?points=2`, { signal }).then(
          (now) => log.load(now.log),
          () => {},
        ),
      DRAW_MS,
    );
  };
  const onEvent = ({ event, data }) => {
    if (event === "step") series.addStep(data);
    else if (event === "eval") series.addEval(data);
    else reloadLog();
    if (event === "state") update();
    drawSoon();
  };
  const onLink = (isUp, wait) => {
    link.hidden = isUp;
    setText(
      link,
      isUp ? "" : `The connection to the server is lost; the next attempt is in ${duration(wait / 1000)}. A job continues without this page.`,
    );
  };
  // A failed job can be resumed: then it has events again.
  while (!signal.aborted) {
    await follow(job.id, { after: series.last?.step ?? -1, onEvent, onLink, signal });
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    while (!signal.aborted && FINAL.has(job.state)) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
