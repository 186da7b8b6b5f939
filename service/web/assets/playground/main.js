// Put a family's form on the page, run it, show what came back.

import { LANGUAGES } from "./code.js";
import { el } from "./elements.js";
import { FAMILIES } from "./families.js";
import { ask, ProblemError } from "./service.js";

const $ = (id) => document.getElementById(id);
let family = null;
let language = "curl";
let running = null;

const chosen = () => FAMILIES.find((each) => `#${each.id}` === location.hash) ?? FAMILIES[0];

function values() {
  const read = {};
  for (const field of family.fields) {
    const text = $(`field-${field.name}`).value;
    if (field.kind === "lines") read[field.name] = text.split("\n").map((line) => line.trim()).filter(Boolean);
    else if (field.kind === "number") read[field.name] = text === "" ? undefined : Number(text);
    else read[field.name] = text;
  }
  return read;
}

function fieldElement(field) {
  const id = `field-${field.name}`;
  const shared = { id, name: field.name, "aria-describedby": field.hint ? `${id}-hint` : null };
  let input;
  if (field.kind === "lines" || field.kind === "text") {
    input = el("textarea", { ...shared, spellcheck: "false" });
    input.value = field.kind === "lines" ? field.value.join("\n") : field.value;
  } else if (field.kind === "choice") {
    input = el("select", shared, ...field.choices.map((text) => el("option", { value: text, text, selected: text === field.value })));
  } else if (field.kind === "line") {
    input = el("input", { ...shared, type: "text", value: field.value, spellcheck: "false" });
  } else {
    input = el("input", { ...shared, type: "number", value: field.value, step: field.step ?? "any", min: field.min, max: field.max });
  }
  const wide = field.kind === "lines" || field.kind === "text";
  return el(
    "div",
    { class: wide ? "field wide" : "field" },
    el("label", { for: id, text: field.label }),
    input,
    field.hint ? el("small", { id: `${id}-hint`, text: field.hint }) : null,
  );
}

function showCode() {
  let text = "";
  try {
    text = family.requests(values()).map((request) => LANGUAGES[language](request, location.origin)).join("\n\n");
  } catch (error) {
    text = error.message;
  }
  $("code").textContent = text;
}

function showFamily() {
  running?.abort();
  family = chosen();
  for (const link of $("families").children) {
    if (link.hash === `#${family.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("title").textContent = family.title;
  $("blurb").textContent = family.blurb;
  $("fields").replaceChildren(...family.fields.map(fieldElement));
  $("answer").hidden = true;
  document.title = `${family.title} · Isotrope`;
  showCode();
}

async function run(event) {
  event.preventDefault();
  running?.abort();
  const mine = new AbortController();
  running = mine;
  $("run").disabled = true;
  $("stop").hidden = false;
  $("answer").hidden = false;
  $("problem").replaceChildren();
  $("shown").replaceChildren();
  $("raw").textContent = "";
  const began = performance.now();
  const said = (text) => ($("progress").textContent = text);
  said("Working …");
  const show = (...nodes) => $("shown").append(...nodes);
  const onProgress = ({ stage, done, total }) => said(`${stage}: ${done} of ${total}`);
  try {
    const reply = await family.run(values(), { signal: mine.signal, show, onProgress });
    $("raw").textContent = JSON.stringify(reply, null, 2);
    said(`Done in ${((performance.now() - began) / 1000).toFixed(2)} s.`);
  } catch (error) {
    if (error.name === "AbortError") said("Stopped.");
    else {
      const problem = error instanceof ProblemError ? error.problem : { title: "Failed", detail: error.message };
      const places = (problem.errors ?? []).filter((each) => each.pointer).map((each) => `${each.pointer}: ${each.detail}`);
      $("problem").replaceChildren(el("strong", { text: problem.title ?? "Refused" }), el("p", { text: problem.detail ?? "" }), ...places.map((text) => el("p", { text })));
      said("Refused.");
    }
  } finally {
    if (running === mine) {
      $("run").disabled = false;
      $("stop").hidden = true;
      running = null;
    }
  }
}

function makeTabs() {
  const names = Object.keys(LANGUAGES);
  const choose = (name) => {
    language = name;
    for (const tab of $("languages").children) {
      const selected = tab.textContent === name;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
    }
    showCode();
  };
  const step = (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    const next = (names.indexOf(language) + move + names.length) % names.length;
    choose(names[next]);
    $("languages").children[next].focus();
  };
  $("languages").append(...names.map((name) => el("button", { type: "button", role: "tab", "aria-controls": "code", text: name, onclick: () => choose(name), onkeydown: step })));
  choose(language);
}

async function copy() {
  const text = $("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren($("code"));
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
}

async function greet() {
  try {
    const info = await ask({ method: "GET", path: "/v1/info" });
    $("state").textContent = `Version ${info.version}, ${info.rooms.length} families, ${info.threads.executors} executors, default model ${info.default_model}.`;
  } catch (error) {
    $("state").textContent = `The service does not answer: ${error.message}`;
  }
}

$("families").append(...FAMILIES.map((each) => el("a", { href: `#${each.id}`, text: each.title })));
family = chosen();
makeTabs();
showFamily();
addEventListener("hashchange", () => {
  showFamily();
  $("main").focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the family
  $("main").focus();
});
$("form").addEventListener("submit", run);
$("form").addEventListener("input", showCode);
$("stop").addEventListener("click", () => running?.abort());
$("copy").addEventListener("click", copy);
greet();
