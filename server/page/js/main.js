/** Starts the page: navigation, colours, views, and the state of the server in the sidebar. */

import { get } from "./api.js";
import { redrawCharts } from "./chart.js";
import { h, replace } from "./dom.js";
import { icon } from "./icons.js";
import { announce } from "./messages.js";
import { segments } from "./parts/pieces.js";
import { poll } from "./polling.js";
import { route } from "./router.js";
import { showCompare } from "./views/compare.js";
import { showData } from "./views/data.js";
import { showDataset } from "./views/dataset.js";
import { showJob } from "./views/job.js";
import { showJobs } from "./views/jobs.js";
import { showPlayground } from "./views/playground.js";
import { showStart } from "./views/start.js";
import { showSweep } from "./views/sweep.js";
import { showSystem } from "./views/system.js";
import { showTry } from "./views/try.js";

const POLL_MS = 4000;
const VIEWS = [
  ["jobs", "Jobs"],
  ["data", "Data"],
  ["playground", "Playground"],
  ["system", "System"],
];
const ROUTES = [
  [/^\/jobs$/, showJobs],
  [/^\/start$/, showStart],
  [/^\/jobs\/([^/]+)$/, showJob],
  [/^\/compare$/, showCompare],
  [/^\/try$/, showTry],
  [/^\/sweeps\/([^/]+)$/, showSweep],
  [/^\/data$/, showData],
  [/^\/data\/([^/]+)$/, showDataset],
  [/^\/playground$/, showPlayground],
  [/^\/system$/, showSystem],
];
// Views that the navigation shows as part of "Jobs".
const UNDER_JOBS = ["start", "compare", "try", "sweeps"];

const count = h("span", { class: "count", hidden: true });
const links = VIEWS.map(([name, text]) =>
  h("a", { href: `#/${name}`, data: { name } }, icon(name), text, name === "jobs" && count),
);
replace(document.getElementById("nav"), links);

function changed(path) {
  const first = path.split("/")[1];
  const view = UNDER_JOBS.includes(first) ? "jobs" : first;
  for (const link of links) {
    if (link.dataset.name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS.find(([name]) => name === view)?.[1] ?? "Jobs"} · steerzo-edge`;
}

function choose(theme) {
  if (theme === "auto") {
    localStorage.removeItem("steerzo-theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("steerzo-theme", theme);
    document.documentElement.dataset.theme = theme;
  }
  redrawCharts();
}

const themes = [
  ["auto", "Auto"],
  ["light", "Light"],
  ["dark", "Dark"],
];
document
  .getElementById("themes")
  .replaceWith(segments("Colours", themes, document.documentElement.dataset.theme ?? "auto", choose, "small"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);

const place = document.getElementById("main");
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  place.focus();
});

const base = document.getElementById("base");
let shown = "";

function showBase(kind, title, about) {
  if (shown === kind + title + about) return;
  shown = kind + title + about;
  replace(base, h("span", { class: `dot ${kind}` }), h("span", {}, h("b", {}, title), " ", h("small", {}, about)));
  announce(`${title}. ${about}`);
}

async function showServer() {
  try {
    const system = await get("/system");
    const running = system.queue.jobs.running ?? 0;
    count.textContent = running;
    count.hidden = running === 0;
    count.setAttribute("aria-label", `${running} running`);
    if (system.objection !== null)
      showBase("warn", system.base ? "Not ready" : "Getting ready", system.objection.detail);
    else showBase("on", system.base.name, `${system.base.quantization} on ${system.device.kind}, ready`);
  } catch (error) {
    showBase(
      "bad",
      error.status === 0 ? "No answer" : "Error",
      error.status === 0 ? "Is the server running?" : error.message,
    );
  }
}

route(place, ROUTES, changed);
poll(showServer, POLL_MS, new AbortController().signal);
