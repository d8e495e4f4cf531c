/** Reads server-sent events from a response. EventSource is not used because it cannot send the key's header. */

/**
 * Yields the events of a stream as they arrive.
 * @param {Response} response
 * @yields {{event: string, id: string|null, data: any}} Comments (heartbeats) are skipped; data is parsed JSON.
 */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event !== null) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  const event = { event: "message", id: null, data: null };
  const lines = [];
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    const name = line.slice(0, at);
    const value = line.slice(at + 1).replace(/^ /, "");
    if (name === "data") lines.push(value);
    else if (name === "event" || name === "id") event[name] = value;
  }
  if (lines.length === 0) return null;
  event.data = JSON.parse(lines.join("\n"));
  return event;
}
