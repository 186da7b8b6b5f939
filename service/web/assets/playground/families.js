// Say for each family what is asked, what is sent, and how the answer looks.
//
// A family has `fields`, `requests(values)` (what the code panel shows) and `run(values, page)`, where
// page is {signal, show, onProgress}. `run` returns what is printed as the whole answer.

import { bars, el, matrix, picture, pieces, sentence, table } from "./elements.js";
import { ask, askWithProgress, ProblemError, stream } from "./service.js";
import { REVIEWS, SENTENCES, SENTENCES_TO_FIT, VERSE } from "./samples.js";

const SVG = "image/svg+xml";
const drop = (object) => Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== ""));
const temporary = (stem) => `${stem}-${Math.random().toString(36).slice(2, 8)}`;

// Make something that is stored, use it, and take it away again whatever happened.
async function withStored(made, path, use) {
  try {
    return await use(made);
  } finally {
    await ask({ method: "DELETE", path: `${path}/${made.id}` }).catch(() => null);
  }
}

const similarity = {
  id: "similarity",
  title: "Similarity",
  blurb: "How close texts are, by their sentence embeddings. Other metrics take hubs down: texts that are near everything.",
  fields: [
    { name: "texts", label: "Texts, one a line", kind: "lines", value: SENTENCES },
    { name: "metric", label: "Metric", kind: "choice", choices: ["cosine", "csls", "mutual_proximity", "local_scaling"], value: "cosine" },
  ],
  requests: ({ texts, metric }) => [{ path: "/v1/similarity", body: { texts, metric } }],
  async run(values, page) {
    const reply = await ask(this.requests(values)[0], page);
    page.show(matrix(`${values.metric} of every pair`, values.texts, reply.scores));
    return reply;
  },
};

const whitening = {
  id: "whitening",
  title: "Whitening",
  blurb: "Fit a map that evens the directions of your embeddings out: β takes the mean away, γ how far variances are evened. The picture shows the spectrum before and after.",
  fields: [
    { name: "texts", label: "Texts to fit on, one a line", kind: "lines", value: SENTENCES_TO_FIT },
    { name: "beta", label: "β", kind: "number", value: 1, min: 0, max: 1, step: 0.1 },
    { name: "gamma", label: "γ", kind: "number", value: 0.5, min: 0, max: 1, step: 0.1 },
    { name: "dimensions", label: "Dimensions to keep", kind: "number", value: 8, min: 1, step: 1 },
  ],
  requests: ({ texts, beta, gamma, dimensions }) => [
    { path: "/v1/whitening/transforms", body: drop({ name: "playground", texts, beta, gamma, dimensions, shrinkage: "oas" }) },
  ],
  async run(values, page) {
    const [request] = this.requests(values);
    request.body.name = temporary("playground");
    const made = await askWithProgress(request, page);
    return withStored(made, "/v1/whitening/transforms", async () => {
      const drawn = await ask({ method: "GET", path: `/v1/whitening/transforms/${made.id}` }, { accept: SVG, signal: page.signal });
      page.show(picture(drawn, "Variance on each axis, before and after"));
      const pairs = values.texts.slice(0, 6);
      const before = await ask({ path: "/v1/similarity", body: { texts: pairs } }, page);
      const after = await ask({ path: "/v1/similarity", body: { texts: pairs, transform: made.id } }, page);
      page.show(matrix("Cosines before", pairs, before.scores), matrix("Cosines after", pairs, after.scores));
      return made;
    });
  },
};

const tokenization = {
  id: "tokenization",
  title: "Tokenization",
  blurb: "A text has many segmentations. Draw them from their exact law, tempered by α, and see the lattice that they are paths of.",
  fields: [
    { name: "text", label: "Text", kind: "text", value: "unbelievable weather" },
    { name: "alpha", label: "α (0: all alike, 1: the model's law)", kind: "number", value: 0.3, min: 0, step: 0.1 },
    { name: "num_samples", label: "Samples", kind: "number", value: 5, min: 1, max: 64, step: 1 },
    { name: "seed", label: "Seed", kind: "number", value: 7, min: 0, step: 1 },
  ],
  requests: ({ text, alpha, num_samples: count, seed }) => [
    { path: "/v1/tokenization/sample", body: drop({ texts: [text], alpha, num_samples: count, seed }) },
  ],
  async run(values, page) {
    const reply = await ask(this.requests(values)[0], page);
    const [result] = reply.results;
    page.show(el("p", { text: `log Z ${result.log_partition.toFixed(4)}, entropy ${result.entropy.toFixed(4)} nats, seed ${reply.seed}` }));
    page.show(table("Samples", ["log p", "pieces"], result.samples.map((each) => [each.log_prob, pieces(each.pieces)])));
    const lattice = { path: "/v1/tokenization/analyze", body: drop({ text: values.text.slice(0, 60), alpha: values.alpha }) };
    page.show(picture(await ask(lattice, { accept: SVG, signal: page.signal }), "The lattice; a thicker piece is likelier"));
    return reply;
  },
};

const geodesic = {
  id: "geodesic",
  title: "Geodesic",
  blurb: "Far distances rebuilt out of near ones: from text to text along nearest neighbours. The path says why two texts belong together.",
  fields: [
    { name: "texts", label: "Texts, one a line", kind: "lines", value: SENTENCES_TO_FIT },
    { name: "k", label: "Neighbours k", kind: "number", value: 3, min: 1, step: 1 },
    { name: "source", label: "From line", kind: "number", value: 1, min: 1, step: 1 },
    { name: "target", label: "To line", kind: "number", value: 12, min: 1, step: 1 },
  ],
  requests: ({ texts, k, source, target }) => [
    { path: "/v1/geodesic/corpora", body: { name: "playground", k, items: texts.map((text, index) => ({ id: `line-${index + 1}`, text })) } },
    { path: "/v1/geodesic/corpora/playground/path", body: { source: `line-${source}`, target: `line-${target}` } },
    { method: "GET", path: "/v1/geodesic/corpora/playground/map" },
  ],
  async run(values, page) {
    const [create, way] = this.requests(values);
    create.body.name = temporary("playground");
    const made = await askWithProgress(create, page);
    return withStored(made, "/v1/geodesic/corpora", async () => {
      const here = `/v1/geodesic/corpora/${made.id}`;
      const path = await ask({ path: `${here}/path`, body: way.body }, page);
      const steps = path.steps ?? [];
      page.show(el("p", { text: steps.length ? `${steps.length} steps:` : "There is no path between them; try a larger k." }));
      page.show(el("ol", { class: "path" }, ...steps.map((step) => el("li", { text: `${step.text ?? step.id}${step.step ? ` (${step.step.toFixed(3)})` : ""}` }))));
      page.show(picture(await ask({ method: "GET", path: `${here}/map` }, { accept: SVG, signal: page.signal }), "Map: geodesic distances laid flat"));
      return path;
    });
  },
};

const opinions = {
  id: "opinions",
  title: "Opinions",
  blurb: "What reviewers say, in their own sentences, each with who supports it. Nothing is invented.",
  fields: [
    { name: "reviews", label: "Reviews, one a line", kind: "lines", value: REVIEWS },
    { name: "words", label: "Words in all", kind: "number", value: 30, min: 1, step: 1 },
    { name: "aspect", label: "An aspect, its words", kind: "lines", value: ["breakfast", "food", "coffee"] },
  ],
  requests: ({ reviews, words, aspect }) => [
    { path: "/v1/opinions/summarize", body: { reviews, budget: { words }, ...(aspect.length ? { aspects: { [aspect[0]]: aspect } } : {}) } },
  ],
  async run(values, page) {
    const reply = await askWithProgress(this.requests(values)[0], page);
    page.show(el("p", { text: `${reply.reviews} reviews, ${reply.sentences} sentences; the summary covers ${Math.round(100 * reply.coverage)} %.` }), ...reply.summary.map(sentence));
    for (const [name, part] of Object.entries(reply.aspects ?? {})) {
      page.show(el("h4", { text: name }), ...(part.summary ?? []).map(sentence));
    }
    return reply;
  },
};

const distribution = {
  id: "distribution",
  title: "Distributions",
  blurb: "Maps from logits to probabilities: softmax and its kin made of noise, and sparse ones that give exact zeros.",
  fields: [
    { name: "logits", label: "Logits, one a line", kind: "lines", value: ["2", "1", "0.5", "0", "-1"] },
    { name: "map", label: "Map", kind: "choice", choices: ["softmax", "gaussian", "logistic", "exponential", "uniform", "sparsemax", "entmax"], value: "exponential" },
  ],
  requests: ({ logits, map }) => [{ path: "/v1/distribution/probabilities", body: { logits: [logits.map(Number)], map } }],
  async run(values, page) {
    const reply = await ask(this.requests(values)[0], page);
    page.show(bars(`${values.map} of the logits`, reply.probabilities[0].map((value, index) => ({ name: values.logits[index], value }))));
    return reply;
  },
};

const attention = {
  id: "attention",
  title: "Attention",
  blurb: "One text under several kinds of attention of the same language model: what each loses, and what its cache costs.",
  fields: [
    { name: "text", label: "Text", kind: "text", value: VERSE },
    { name: "variants", label: "Variants, one a line (2 to 6)", kind: "lines", value: ["mha", "gqa", "mqa", "mla"] },
    { name: "model", label: "Model", kind: "line", value: "isotrope-bytes", hint: "isotrope-bytes is always there; smollm2-135m-instruct once it is built." },
  ],
  requests: ({ text, variants, model }) => [{ path: "/v1/attention/compare", body: drop({ text, variants, model: model.trim() }) }],
  async run(values, page) {
    const [request] = this.requests(values);
    const reply = await askWithProgress(request, page);
    const named = (key) => reply.variants.map((each) => ({ name: each.variant, value: each[key] }));
    page.show(
      table("Against the first", ["variant", "perplexity", "KL", "top-1 agreement", "seconds", "lossy"], reply.variants.map((each) => [each.variant, each.perplexity, each.kl, each.top1_agreement, each.seconds, each.lossy ? "yes" : "no"])),
      bars("Cache, bytes a token", named("cache_bytes_per_token")),
    );
    page.show(picture(await ask(request, { accept: SVG, signal: page.signal }), "Entropy of attention by layer, and the cache"));
    return reply;
  },
};

const generation = {
  id: "generation",
  title: "Generation",
  blurb: "Continue a text, token by token, seeded: the same seed gives the same text, whatever runs beside it.",
  fields: [
    { name: "text", label: "Text", kind: "text", value: "ROMEO:\nWhat light is" },
    { name: "max_tokens", label: "Tokens", kind: "number", value: 80, min: 1, step: 1 },
    { name: "temperature", label: "Temperature", kind: "number", value: 0.8, min: 0, step: 0.1 },
    { name: "probability_map", label: "Map", kind: "choice", choices: ["softmax", "gaussian", "exponential", "sparsemax", "entmax"], value: "softmax" },
    { name: "seed", label: "Seed", kind: "number", value: 7, min: 0, step: 1 },
    { name: "model", label: "Model", kind: "line", value: "isotrope-bytes" },
  ],
  requests: (values) => [{ path: "/v1/attention/generate", body: drop({ ...values, model: values.model.trim() }) }],
  async run(values, page) {
    const place = el("div", { class: "text", text: values.text });
    page.show(place);
    const events = [];
    for await (const { event, data } of stream(this.requests(values)[0], page)) {
      if (event === "error") throw new ProblemError(data);
      if (event === "token") {
        place.append(data.text);
        page.onProgress({ stage: "tokens", done: data.index + 1, total: values.max_tokens });
      } else events.push({ event, ...data });
    }
    return events;
  },
};

export const FAMILIES = [similarity, whitening, tokenization, geodesic, opinions, distribution, attention, generation];
