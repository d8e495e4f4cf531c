/** A job in figures and in words. */

import { h, say } from "../dom.js";
import { FINAL } from "../follow.js";
import { clock, duration, percent, plain, whole } from "../format.js";
import { meaning, score, speed, stepsOf } from "../words.js";

/**
 * The figures on top, and the memory of the device beside them.
 * @returns {{element: HTMLElement, update: (job: Object, series: import("../series.js").Series, done: number) => void,
 *   memory: (found: Object) => void}}
 */
export function jobFigures() {
  const names = ["Loss", "Result", "Progress", "Speed", "Time left", "Memory"];
  const cells = Object.fromEntries(
    names.map((name) => [
      name,
      { name: h("dt", {}, name), value: h("dd", {}, "–"), about: h("dd", { class: "small muted" }) },
    ]),
  );
  const element = h(
    "dl",
    { class: "tiles" },
    Object.values(cells).map((one) => h("div", {}, one.name, one.value, one.about)),
  );
  const put = (name, value, about = "") => {
    say(cells[name].value, value);
    say(cells[name].about, about);
  };
  const update = (job, series, done) => {
    const last = series.last;
    const evals = [...series.evals.values()].sort((a, b) => a.step - b.step);
    put(
      "Loss",
      plain(last?.loss ?? job.loss),
      last ? `first ${plain(series.columns.loss.find((one) => one !== null))}` : "of the last step",
    );
    const [first, now] = [evals[0], evals[evals.length - 1]].map((one) => score(one?.metrics ?? one));
    const kept = job.metrics?.loss === undefined ? null : score(job.metrics);
    if (now) {
      say(cells.Result.name, now.name.charAt(0).toUpperCase() + now.name.slice(1));
      put("Result", percent((FINAL.has(job.state) && kept ? kept : now).value), `base ${percent(first.value)}`);
    } else if (evals.length) {
      say(cells.Result.name, "Validation loss");
      put("Result", plain(evals[evals.length - 1].loss), `base ${plain(evals[0].loss)}`);
    } else put("Result", "–", "not checked yet");
    put("Progress", shareOf(done, job.steps), `step ${stepsOf(done, job.steps)}`);
    const pace = speed(job);
    put(
      "Speed",
      pace === null ? "–" : `${plain(pace, 1)} steps/s`,
      `${whole(last?.forwards ?? job.forwards)} forward passes`,
    );
    const began = job.started ? `began at ${clock(job.started)}` : "";
    if (FINAL.has(job.state)) {
      say(cells["Time left"].name, "Took");
      put("Time left", job.started ? duration(job.ended - job.started) : "–", began);
      say(cells.Memory.name, "Adapter");
      put(
        "Memory",
        job.adapter ? `step ${whole(job.adapter.step)}` : "none",
        job.adapter ? `sha256 ${job.adapter.sha256.slice(0, 10)}…` : "",
      );
    } else {
      say(cells["Time left"].name, "Time left");
      say(cells.Memory.name, "Memory");
      put("Time left", job.state === "paused" ? "–" : duration(job.seconds_left), began);
    }
  };
  const memory = ({ used, free }) =>
    put("Memory", `${(used / 2 ** 30).toFixed(2)} GiB`, `${(free / 2 ** 30).toFixed(1)} GiB free`);
  return { element, update, memory };
}

/**
 * What a job was asked for, in words.
 * @param {Object} job
 * @returns {HTMLElement}
 */
export function aboutJob(job) {
  const { profile } = job;
  const rows = [
    ["Dataset", h("a", { href: `#/data/${job.dataset}` }, job.dataset)],
    [
      "Judged by",
      job.validation
        ? h("a", { href: `#/data/${job.validation}` }, job.validation)
        : `${Math.round(profile.evaluate.holdout * 100)} % of the rows, set aside`,
    ],
    ["Base", `${profile.model.id} in ${profile.model.quantization}`],
    ["Profile", profile.name],
    ...meaning(profile),
    job.task && ["Prompt", h("code", {}, job.task.template)],
    ["Seed", String(job.seed)],
    ["Id", h("code", {}, job.id)],
  ].filter(Boolean);
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "What it does"),
    h(
      "dl",
      { class: "facts" },
      rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  );
}

/** Downwards, so that 100 % is the end; with a digit more where a long run begins. */
function shareOf(done, all) {
  const share = all ? (100 * done) / all : 0;
  return `${share < 10 ? Math.floor(10 * share) / 10 : Math.floor(share)} %`;
}
