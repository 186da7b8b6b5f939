// Talk to the service that sent this page, and to nobody else.

export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail ?? "The service did not answer.");
    this.problem = problem;
  }
}

async function refuse(answer) {
  let problem = { title: `HTTP ${answer.status}`, detail: await answer.text() };
  try {
    problem = JSON.parse(problem.detail);
  } catch {
    // a body that is no problem, from something between the page and the service
  }
  throw new ProblemError(problem);
}

export async function ask(request, { accept = "application/json", signal } = {}) {
  const answer = await fetch(request.path, {
    method: request.method ?? "POST",
    headers: { Accept: accept, ...(request.body ? { "Content-Type": "application/json" } : {}) },
    body: request.body ? JSON.stringify(request.body) : undefined,
    signal,
  });
  if (!answer.ok) await refuse(answer);
  if (accept.startsWith("image/")) return answer.blob();
  return answer.status === 204 ? null : answer.json();
}

// Yield {event, data} of a text/event-stream body.
export async function* stream(request, { signal } = {}) {
  const answer = await fetch(request.path, {
    method: "POST",
    headers: { Accept: "text/event-stream", "Content-Type": "application/json" },
    body: JSON.stringify(request.body),
    signal,
  });
  if (!answer.ok) await refuse(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/);
      const event = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "message";
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data && data !== "[DONE]") yield { event, data: JSON.parse(data) };
    }
  }
}

// Run long work: `onProgress` hears of it, the result is what plain JSON would have been.
export async function askWithProgress(request, { signal, onProgress }) {
  for await (const { event, data } of stream(request, { signal })) {
    if (event === "progress") onProgress(data);
    else if (event === "error") throw new ProblemError(data);
    else if (event === "result") return data;
  }
  throw new ProblemError({ title: "Cut off", detail: "The answer ended before its result." });
}
