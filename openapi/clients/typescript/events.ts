// Read an answer that is streamed: text/event-stream, one event at a time.
//
//   const answer = await fetch(url, { method: "POST", headers: { Accept: "text/event-stream", "Content-Type": "application/json" }, body });
//   for await (const event of events(answer)) console.log(event.name, event.data);

export interface ServerEvent {
  name: string;
  data: unknown;
}

export class StreamError extends Error {
  constructor(readonly problem: { detail?: string }) {
    super(problem.detail ?? "The stream ended with an error.");
  }
}

export async function* events(answer: Response): AsyncGenerator<ServerEvent> {
  if (!answer.ok || answer.body === null) throw new StreamError((await answer.json()) as { detail?: string });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parse(block);
      if (event === null) continue;
      if (event.name === "error") throw new StreamError(event.data as { detail?: string });
      yield event;
    }
  }
}

function parse(block: string): ServerEvent | null {
  let name = "message";
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  const text = data.join("\n");
  return text === "" || text === "[DONE]" ? null : { name, data: JSON.parse(text) as unknown };
}
