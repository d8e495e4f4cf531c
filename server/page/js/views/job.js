/** One job, live: its curves, its figures, what it said, and what can be done with it. */

import { get } from "../api.js";
import { h, replace, say } from "../dom.js";
import { FINAL, follow, reached } from "../follow.js";
import { duration } from "../format.js";
import { announce } from "../notes.js";
import { actionsOf } from "../parts/actions.js";
import { jobCharts } from "../parts/jobcharts.js";
import { aboutJob, jobFigures } from "../parts/jobfigures.js";
import { jobLog } from "../parts/joblog.js";
import { badge, faults, head, meter, move, segments } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { AXES, POINTS, Series } from "../series.js";
import { stateOf } from "../words.js";

const DRAW_MS = 250;
const LOOK_MS = 3000;

/** @param {{place: HTMLElement, signal: AbortSignal, words: string[], query: URLSearchParams}} context */
export async function showJob({ place, signal, words, query }) {
  try {
    const job = await get(`/jobs/${encodeURIComponent(words[0])}`, { signal });
    if (!signal.aborted) await live(place, signal, job, query.get("x"));
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted)
      replace(place, head("Job", { trail: ["#/jobs", "Jobs"] }), faults(error));
  }
}

async function live(place, signal, first, wantedAxis) {
  const series = new Series();
  let job = first;
  let axis = wantedAxis in AXES ? wantedAxis : "forwards";
  const charts = jobCharts(job);
  const log = jobLog();
  const tiles = jobFigures();
  const state = h("span");
  const bar = meter(0, "Progress");
  const link = h("p", { class: "small", role: "status", hidden: true });
  const failure = h("div");
  const hurry = () => look();
  const actions = actionsOf(job, { changed: hurry, deleted: () => (location.hash = "#/jobs"), words: true });
  const tryIt = h("a", { class: "button main", href: `#/playground?adapter=${job.id}` }, "Try it");
  const compare = h("a", { class: "button", href: `#/compare?jobs=${job.id}` }, "Compare");
  const axes = segments(
    "Draw over",
    [
      ["forwards", "Forward passes"],
      ["elapsed", "Time"],
      ["step", "Steps"],
    ],
    axis,
    (value) => {
      axis = value;
      charts.draw(series, axis);
    },
    "small",
  );

  replace(
    place,
    head(job.name, { trail: ["#/jobs", "Jobs"], about: [state], actions: [tryIt, compare, actions.element] }),
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
          "Drag over a curve to look closer, double-click to see all of it again.",
        ),
        axes,
      ),
      charts.element,
      h("div", { class: "halves" }, log.element, aboutJob(job)),
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
        job.error && faults({ ...job.error, message: job.error.detail, errors: job.error.errors ?? [] }),
      );
      tryIt.hidden = !job.adapter && !["running", "paused"].includes(job.state);
    }
    actions.update(job);
  };
  const refresh = () => {
    const done = series.last === null ? job.step : Math.max(job.step, series.last.step + 1);
    move(bar, job.steps ? done / job.steps : 0, job.state);
    tiles.update(job, series, done);
    showState();
  };
  let drawn = false;
  const drawSoon = () => {
    if (drawn) return;
    drawn = true;
    setTimeout(() => {
      drawn = false;
      if (signal.aborted) return;
      charts.draw(series, axis);
      refresh();
    }, DRAW_MS);
  };

  const look = poll(
    async () => {
      try {
        job = await get(`/jobs/${job.id}`, { signal });
        const system = FINAL.has(job.state) ? null : await get("/system", { signal });
        if (system) tiles.memory(system.memory);
        refresh();
        if (!link.hidden) reached.dispatchEvent(new Event("reached"));
      } catch (error) {
        if (error.status === 404) replace(failure, faults(error));
      }
      return FINAL.has(job.state) ? 5 * LOOK_MS : LOOK_MS;
    },
    LOOK_MS,
    signal,
  );

  const whole_ = await get(`/jobs/${job.id}/metrics?points=${POINTS}`, { signal });
  if (signal.aborted) return;
  series.load(whole_);
  log.load(whole_.log);
  charts.draw(series, axis);
  refresh();
  // What a stream says after a broken connection may be known already: the server's list has everything once.
  let asked = 0;
  const relog = () => {
    clearTimeout(asked);
    asked = setTimeout(
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
    else relog();
    if (event === "state") look();
    drawSoon();
  };
  const onLink = (isUp, wait) => {
    link.hidden = isUp;
    say(
      link,
      isUp ? "" : `The connection broke off; again in ${duration(wait / 1000)}. The job goes on meanwhile.`,
    );
  };
  // A job that is resumed after its end has events again; whoever looks at it sees them.
  while (!signal.aborted) {
    await follow(job.id, { after: series.last?.step ?? -1, onEvent, onLink, signal });
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    while (!signal.aborted && FINAL.has(job.state)) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
