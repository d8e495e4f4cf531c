/** One column of the playground: who answers, what it says, and how fast. */

import { Problem, send } from "../api.js";
import { h, replace, say } from "../dom.js";
import { plain, whole } from "../format.js";
import { icon } from "../icons.js";
import { eventsOf } from "../sse.js";

const REASONS = {
  stop: "ended by itself",
  length: "reached its length",
  cancelled: "stopped",
  timeout: "took too long",
};

const SHORTEST_S = 0.03;

/**
 * A column.
 * @param {{id: string, name: string, about: string, close: () => void}} options `id` is empty for the base.
 * @returns {{id: string, element: HTMLElement, ask: (question: Object) => Promise<void>, stop: () => void,
 *   clear: () => void, inWords: () => string}}
 */
export function answerColumn({ id, name, about, close }) {
  const body = h("div", { class: "turns" });
  const foot = h("p", { class: "small muted speed" });
  const shut = h(
    "button",
    { class: "button quiet icon", type: "button", "aria-label": `Close ${name}`, onClick: close },
    icon("close", 14),
  );
  const element = h(
    "section",
    { class: "card answer", "aria-label": `Answer of ${name}`, data: { adapter: id || "base" } },
    h("div", { class: "row wide top" }, h("h3", {}, name, " ", h("span", { class: "muted small" }, about)), shut),
    body,
    foot,
  );
  let turns = [];
  let under = null;
  let last = "";

  const clear = () => {
    under?.abort();
    turns = [];
    last = "";
    replace(body, h("p", { class: "muted" }, "Waits for your prompt."));
    say(foot, "");
  };

  async function ask({ text, mode, settings, labels, signal }) {
    under = new AbortController();
    const both = AbortSignal.any([signal, under.signal]);
    const said = h("p", { class: "said" });
    const wait = h("span", { class: "cursor", "aria-hidden": "true" });
    said.append(wait);
    if (mode === "chat") turns.push({ role: "user", content: text });
    const asked = h("p", { class: "asked" }, text);
    if (mode === "chat") body.append(...(turns.length === 1 ? [] : []), asked, said);
    else replace(body, said);
    if (mode === "chat" && turns.length === 1) replace(body, asked, said);
    const words = {
      ...settings,
      stream: true,
      adapter: id || null,
      ...(mode === "chat" ? { messages: turns } : { prompt: text }),
    };
    const clock = { asked: performance.now(), first: 0, pieces: 0 };
    let whole_ = "";
    say(foot, "Waiting for the first token…");
    try {
      const response = await send("POST", "/generate", { body: words, signal: both });
      for await (const { event, data } of eventsOf(response)) {
        if (event === "token") {
          clock.first ||= performance.now();
          clock.pieces += 1;
          whole_ += data.text;
          // Between a prompt and its answer is a blank, which an answer that stands alone does not begin with.
          said.insertBefore(document.createTextNode(clock.pieces === 1 ? data.text.trimStart() : data.text), wait);
          say(foot, pace(clock.pieces, clock));
        } else if (event === "done") {
          whole_ = data.text;
          say(
            foot,
            `${pace(data.usage.completion_tokens, clock)} · ${REASONS[data.finish_reason] ?? data.finish_reason}`,
          );
        } else if (event === "error") throw new Problem(data);
      }
      if (labels !== null) body.append(meant(whole_, labels));
    } catch (error) {
      if (error.name === "AbortError") say(foot, `${pace(clock.pieces, clock)} · stopped`);
      else {
        say(foot, "");
        body.append(h("p", { class: "faults small", role: "alert" }, h("b", {}, error.message), " ", error.hint));
      }
    }
    wait.remove();
    if (!whole_ && !said.textContent) said.append(h("span", { class: "muted" }, "(nothing)"));
    if (mode === "chat") {
      if (said.isConnected && whole_) turns.push({ role: "assistant", content: whole_ });
      else turns.pop();
    }
    last = whole_;
  }

  clear();
  return { id, element, ask, clear, stop: () => under?.abort(), inWords: () => `${name}: ${last || "nothing"}.` };
}

function pace(tokens, clock) {
  if (!clock.first) return "nothing yet";
  const seconds = (performance.now() - clock.first) / 1000;
  const delay = (clock.first - clock.asked) / 1000;
  // A short answer may come in one piece: then only the whole wait says how quick it was. One token says nothing.
  const rate = seconds > SHORTEST_S ? (tokens - 1) / seconds : tokens / (delay + seconds);
  const pieces = [
    `${whole(tokens)} ${tokens === 1 ? "token" : "tokens"}`,
    tokens > 1 && `${plain(rate, 1)} tokens/s`,
    `first after ${plain(delay, 2)} s`,
  ];
  return pieces.filter(Boolean).join(" · ");
}

/** Which label an answer stands for, where the rows it learned from had labels. */
function meant(text, labels) {
  const said = text.trim().toLowerCase();
  const found = Object.entries(labels).find(([, word]) => said.startsWith(word.trim().toLowerCase()));
  return h(
    "p",
    { class: "small" },
    found
      ? ["means ", h("span", { class: "tag yes" }, found[0])]
      : h("span", { class: "muted" }, "none of the job's labels"),
  );
}
