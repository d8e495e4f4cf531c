/** One job, live: its curves, its figures, what it said, and what can be done with it. */

import { get } from "../api.js";
import { h, replace, say } from "../dom.js";
import { FINAL, follow, reached } from "../follow.js";
import { clock, duration, percent, plain, whole } from "../format.js";
import { announce } from "../notes.js";
import { actionsOf } from "../parts/actions.js";
import { jobCharts } from "../parts/jobcharts.js";
import { jobLog } from "../parts/joblog.js";
import { badge, faults, head, meter, move, segments } from "../parts/pieces.js";
import { poll } from "../polling.js";
import { AXES, POINTS, Series } from "../series.js";
import { meaning, score, speed, stateOf, stepsOf } from "../words.js";

const DRAW_MS = 250;
const LOOK_MS = 3000;

/** @param {{place: HTMLElement, signal: AbortSignal, words: string[], query: URLSearchParams}} context */
export async function showJob({ place, signal, words, query }) {
  try {
    const job = await get(`/jobs/${encodeURIComponent(words[0])}`, { signal });
    if (!signal.aborted) await live(place, signal, job, query.get("x"));
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) replace(place, head("Job", { trail: ["#/jobs", "Jobs"] }), faults(error));
  }
}

async function live(place, signal, first, wantedAxis) {
  const series = new Series();
  let job = first;
  let axis = wantedAxis in AXES ? wantedAxis : "forwards";
  const charts = jobCharts(job);
  const log = jobLog();
  const tiles = figures();
  const state = h("span");
  const bar = meter(0, "Progress");
  const link = h("p", { class: "small", role: "status", hidden: true });
  const failure = h("div");
  const hurry = () => look();
  const actions = actionsOf(job, { changed: hurry, deleted: () => (location.hash = "#/jobs"), words: true });
  const tryIt = h("a", { class: "button main", href: `#/playground?adapter=${job.id}` }, "Try it");
  const axes = segments("Draw over", [["forwards", "Forward passes"], ["elapsed", "Time"], ["step", "Steps"]], axis, (value) => {
    axis = value;
    charts.draw(series, axis);
  }, "small");

  replace(
    place,
    head(job.name, { trail: ["#/jobs", "Jobs"], about: [state], actions: [tryIt, actions.element] }),
    h("div", { class: "stack" }, failure, h("div", { class: "card stack summary" }, bar, tiles.element, link), h("div", { class: "row wide" }, h("span", { class: "muted small" }, "Drag over a curve to look closer, double-click to see all of it again."), axes), charts.element, h("div", { class: "halves" }, log.element, about(job))),
  );

  let stateNow = null;
  const showState = () => {
    const now = `${job.state} ${job.wish}`;
    if (now !== stateNow) {
      if (stateNow !== null) announce(`${job.name}: ${stateOf(job)}`);
      stateNow = now;
      replace(state, badge(job), job.waiting_for && job.state === "queued" && h("span", { class: "muted" }, ` for ${job.waiting_for}`));
      replace(failure, job.error && faults({ ...job.error, message: job.error.detail, errors: job.error.errors ?? [] }));
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
    asked = setTimeout(() => get(`/jobs/${job.id}/metrics?points=2`, { signal }).then((now) => log.load(now.log), () => {}), DRAW_MS);
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
    say(link, isUp ? "" : `The connection broke off; again in ${duration(wait / 1000)}. The job goes on meanwhile.`);
  };
  // A job that is resumed after its end has events again; whoever looks at it sees them.
  while (!signal.aborted) {
    await follow(job.id, { after: series.last?.step ?? -1, onEvent, onLink, signal });
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    while (!signal.aborted && FINAL.has(job.state)) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function figures() {
  const names = ["Loss", "Result", "Progress", "Speed", "Time left", "Memory"];
  const cells = Object.fromEntries(names.map((name) => [name, { name: h("dt", {}, name), value: h("dd", {}, "–"), about: h("dd", { class: "small muted" }) }]));
  const element = h("dl", { class: "tiles" }, Object.values(cells).map((one) => h("div", {}, one.name, one.value, one.about)));
  const put = (name, value, about = "") => {
    say(cells[name].value, value);
    say(cells[name].about, about);
  };
  const update = (job, series, done) => {
    const last = series.last;
    const evals = [...series.evals.values()].sort((a, b) => a.step - b.step);
    put("Loss", plain(last?.loss ?? job.loss), last ? `first ${plain(series.columns.loss.find((one) => one !== null))}` : "of the last step");
    const [first, now] = [evals[0], evals[evals.length - 1]].map((one) => score(one?.metrics ?? one));
    const kept = job.metrics?.loss === undefined ? null : score(job.metrics);
    if (now) {
      say(cells.Result.name, now.name.charAt(0).toUpperCase() + now.name.slice(1));
      put("Result", percent((FINAL.has(job.state) && kept ? kept : now).value), `base ${percent(first.value)}`);
    } else if (evals.length) {
      say(cells.Result.name, "Validation loss");
      put("Result", plain(evals[evals.length - 1].loss), `base ${plain(evals[0].loss)}`);
    } else put("Result", "–", "not checked yet");
    put("Progress", `${job.steps ? Math.floor((100 * done) / job.steps) : 0} %`, `step ${stepsOf(done, job.steps)}`);
    const pace = speed(job);
    put("Speed", pace === null ? "–" : `${plain(pace, 1)} steps/s`, `${whole(last?.forwards ?? job.forwards)} forward passes`);
    const began = job.started ? `began at ${clock(job.started)}` : "";
    if (FINAL.has(job.state)) {
      say(cells["Time left"].name, "Took");
      put("Time left", job.started ? duration(job.ended - job.started) : "–", began);
      say(cells.Memory.name, "Adapter");
      put("Memory", job.adapter ? `step ${whole(job.adapter.step)}` : "none", job.adapter ? `sha256 ${job.adapter.sha256.slice(0, 10)}…` : "");
    } else {
      say(cells["Time left"].name, "Time left");
      say(cells.Memory.name, "Memory");
      put("Time left", job.state === "paused" ? "–" : duration(job.seconds_left), began);
    }
  };
  const memory = ({ used, free }) => put("Memory", `${(used / 2 ** 30).toFixed(2)} GiB`, `${(free / 2 ** 30).toFixed(1)} GiB free`);
  return { element, update, memory };
}

function about(job) {
  const { profile } = job;
  const rows = [
    ["Dataset", h("a", { href: `#/data/${job.dataset}` }, job.dataset)],
    ["Judged by", job.validation ? h("a", { href: `#/data/${job.validation}` }, job.validation) : `${Math.round(profile.evaluate.holdout * 100)} % of the rows, set aside`],
    ["Base", `${profile.model.id} in ${profile.model.quantization}`],
    ["Profile", profile.name],
    ...meaning(profile),
    job.task && ["Prompt", h("code", {}, job.task.template)],
    ["Seed", String(job.seed)],
    ["Id", h("code", {}, job.id)],
  ].filter(Boolean);
  return h("section", { class: "card" }, h("h2", {}, "What it does"), h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}
