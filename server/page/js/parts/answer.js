/** One column of the playground: the base or an adapter, its answer, and its speed. */

import { Problem, send } from "../api.js";
import { h, replace, setText } from "../dom.js";
import { plain, whole } from "../format.js";
import { icon } from "../icons.js";
import { eventsOf } from "../sse.js";

const REASONS = {
  stop: "finished",
  length: "length limit",
  cancelled: "stopped",
  timeout: "timed out",
};

// Below this time between first and last token, a rate from their difference would be noise.
const SHORTEST_S = 0.03;

/**
 * Creates a column.
 * @param {{id: string, name: string, about: string, close: () => void}} options `id` is empty for the base model.
 * @returns {{id: string, element: HTMLElement, ask: (question: Object) => Promise<void>, stop: () => void,
 *   clear: () => void, inWords: () => string}} `ask` sends a prompt and shows the answer as it arrives.
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
  let request = null;
  let last = "";

  const clear = () => {
    request?.abort();
    turns = [];
    last = "";
    replace(body, h("p", { class: "muted" }, "No prompt sent yet."));
    setText(foot, "");
  };

  async function ask({ text, mode, settings, labels, signal }) {
    request = new AbortController();
    const both = AbortSignal.any([signal, request.signal]);
    const answer = h("p", { class: "model-text" });
    const wait = h("span", { class: "cursor", "aria-hidden": "true" });
    answer.append(wait);
    if (mode === "chat") turns.push({ role: "user", content: text });
    const question = h("p", { class: "user-prompt" }, text);
    if (mode !== "chat") replace(body, answer);
    else if (turns.length === 1) replace(body, question, answer);
    else body.append(question, answer);
    const sent = {
      ...settings,
      stream: true,
      adapter: id || null,
      ...(mode === "chat" ? { messages: turns } : { prompt: text }),
    };
    const clock = { sent: performance.now(), first: 0, pieces: 0 };
    let received = "";
    setText(foot, "Waiting for the first token…");
    try {
      const response = await send("POST", "/generate", { body: sent, signal: both });
      for await (const { event, data } of eventsOf(response)) {
        if (event === "token") {
          clock.first ||= performance.now();
          clock.pieces += 1;
          received += data.text;
          // Answers begin with the space that separates them from the prompt; it is not shown.
          wait.before(clock.pieces === 1 ? data.text.trimStart() : data.text);
          setText(foot, pace(clock.pieces, clock));
        } else if (event === "done") {
          received = data.text;
          setText(
            foot,
            `${pace(data.usage.completion_tokens, clock)} · ${REASONS[data.finish_reason] ?? data.finish_reason}`,
          );
        } else if (event === "error") throw new Problem(data);
      }
      if (labels !== null) body.append(labelOf(received, labels));
    } catch (error) {
      if (error.name === "AbortError") setText(foot, `${pace(clock.pieces, clock)} · stopped`);
      else {
        setText(foot, "");
        body.append(h("p", { class: "problem small", role: "alert" }, h("b", {}, error.message), " ", error.hint));
      }
    }
    wait.remove();
    if (!received && !answer.textContent) answer.append(h("span", { class: "muted" }, "(empty answer)"));
    if (mode === "chat") {
      if (answer.isConnected && received) turns.push({ role: "assistant", content: received });
      else turns.pop();
    }
    last = received;
  }

  clear();
  const stop = () => request?.abort();
  const inWords = () => `${name}: ${last || "empty answer"}.`;
  return { id, element, ask, clear, stop, inWords };
}

function pace(tokens, clock) {
  if (!clock.first) return "no tokens yet";
  const seconds = (performance.now() - clock.first) / 1000;
  const delay = (clock.first - clock.sent) / 1000;
  // A short answer may arrive in one piece: then the rate is that of the whole wait. One token alone has no rate.
  const rate = seconds > SHORTEST_S ? (tokens - 1) / seconds : tokens / (delay + seconds);
  const pieces = [
    `${whole(tokens)} ${tokens === 1 ? "token" : "tokens"}`,
    tokens > 1 && `${plain(rate, 1)} tokens/s`,
    `first token after ${plain(delay, 2)} s`,
  ];
  return pieces.filter(Boolean).join(" · ");
}

/** Says which label of the job an answer begins with, if any. */
function labelOf(text, labels) {
  const answer = text.trim().toLowerCase();
  const found = Object.entries(labels).find(([, word]) => answer.startsWith(word.trim().toLowerCase()));
  return h(
    "p",
    { class: "small" },
    found
      ? ["label: ", h("span", { class: "tag yes" }, found[0])]
      : h("span", { class: "muted" }, "the answer is none of the job's labels"),
  );
}
