/** The figures and the settings of one job. */

import { h, setText } from "../dom.js";
import { FINAL } from "../follow.js";
import { clock, duration, percent, plain, whole } from "../format.js";
import { profileInWords, score, speed, stepsOf } from "../words.js";

/**
 * The figures at the top of the view: loss, score, progress, speed, time, and memory of the device.
 * @returns {{element: HTMLElement, update: (job: Object, series: import("../series.js").Series, done: number) => void,
 *   memory: (found: Object) => void}}
 */
export function jobFigures() {
  const names = ["Loss", "Score", "Progress", "Speed", "Time left", "Memory"];
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
    setText(cells[name].value, value);
    setText(cells[name].about, about);
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
      setText(cells.Score.name, now.name.charAt(0).toUpperCase() + now.name.slice(1));
      put("Score", percent((FINAL.has(job.state) && kept ? kept : now).value), `base model ${percent(first.value)}`);
    } else if (evals.length) {
      setText(cells.Score.name, "Validation loss");
      put("Score", plain(evals[evals.length - 1].loss), `base model ${plain(evals[0].loss)}`);
    } else put("Score", "–", "not evaluated yet");
    put("Progress", shareOf(done, job.steps), `step ${stepsOf(done, job.steps)}`);
    const pace = speed(job);
    put(
      "Speed",
      pace === null ? "–" : `${plain(pace, 1)} steps/s`,
      `${whole(last?.forwards ?? job.forwards)} forward passes`,
    );
    const started = job.started ? `started at ${clock(job.started)}` : "";
    if (FINAL.has(job.state)) {
      setText(cells["Time left"].name, "Duration");
      put("Time left", job.started ? duration(job.ended - job.started) : "–", started);
      setText(cells.Memory.name, "Adapter");
      put(
        "Memory",
        job.adapter ? `step ${whole(job.adapter.step)}` : "none",
        job.adapter ? `sha256 ${job.adapter.sha256.slice(0, 10)}…` : "",
      );
    } else {
      setText(cells["Time left"].name, "Time left");
      setText(cells.Memory.name, "Memory");
      put("Time left", job.state === "paused" ? "–" : duration(job.seconds_left), job.phase ?? started);
    }
  };
  const memory = ({ used, free }) =>
    put("Memory", `${(used / 2 ** 30).toFixed(2)} GiB`, `${(free / 2 ** 30).toFixed(1)} GiB free`);
  return { element, update, memory };
}

/**
 * The settings of a job, in words.
 * @param {Object} job
 * @param {Map<string, import("../methods.js").Method>} methods
 * @returns {HTMLElement}
 */
export function aboutJob(job, methods) {
  const { profile } = job;
  const rows = [
    ["Dataset", h("a", { href: `#/data/${job.dataset}` }, job.dataset)],
    [
      "Validation data",
      job.validation
        ? h("a", { href: `#/data/${job.validation}` }, job.validation)
        : `${Math.round(profile.evaluate.holdout * 100)} % of the dataset, held out`,
    ],
    ["Base model", `${profile.model.id} in ${profile.model.quantization}`],
    ["Profile", profile.name],
    ...profileInWords(profile, methods),
    job.task && ["Prompt", h("code", {}, job.task.template)],
    ["Seed", String(job.seed)],
    ["Id", h("code", {}, job.id)],
  ].filter(Boolean);
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Settings"),
    h(
      "dl",
      { class: "facts" },
      rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  );
}

/** Rounded down, so that 100 % means the end; below 10 % with one decimal. */
function shareOf(done, all) {
  const share = all ? (100 * done) / all : 0;
  return `${share < 10 ? Math.floor(10 * share) / 10 : Math.floor(share)} %`;
}
