// Ask for embeddings, completions and a conversation, streamed and not; both ways must say the same.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none" });
const same = (what, a, b) => {
  if (a !== b) throw new Error(`${what}: ${JSON.stringify(a)} is not ${JSON.stringify(b)}`);
};

const vectors = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: ["a cat", "a dog"] });
same("vectors", vectors.data.length, 2);
same("dimensions", vectors.data[0].embedding.length, 384);

const asked = { model: "isotrope-bytes", prompt: "The night", max_tokens: 12, seed: 7, temperature: 0.8 };
const whole = await client.completions.create(asked);
let text = "";
for await (const part of await client.completions.create({ ...asked, stream: true })) text += part.choices[0]?.text ?? "";
same("completion", text, whole.choices[0].text);
same("completion tokens", whole.usage.completion_tokens, 12);

const talk = {
  model: "smollm2-135m-instruct",
  messages: [{ role: "user", content: "Say hello." }],
  max_tokens: 8,
  seed: 7,
};
const answer = await client.chat.completions.create(talk);
let said = "";
let usage = null;
for await (const part of await client.chat.completions.create({ ...talk, stream: true, stream_options: { include_usage: true } })) {
  said += part.choices[0]?.delta?.content ?? "";
  usage = part.usage ?? usage;
}
same("conversation", said, answer.choices[0].message.content);
same("usage", usage.total_tokens, answer.usage.total_tokens);

try {
  await client.chat.completions.create({ ...talk, max_tokens: 0 });
  throw new Error("max_tokens 0 was taken");
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  same("refusal", error.status, 422);
}
console.log("driven");
