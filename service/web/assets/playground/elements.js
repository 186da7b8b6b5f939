// Make elements. Text is always set as text: nothing that a service or a person wrote is read as HTML.

export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === undefined || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "text") element.textContent = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const digits = (value) =>
  typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : String(value ?? "–");

export function table(caption, head, rows) {
  const cell = (value) =>
    value instanceof Node
      ? el("td", {}, value)
      : el("td", { class: typeof value === "number" ? "number" : null, text: digits(value) });
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { text: caption }),
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col", text })))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))),
    ),
  );
}

// A matrix is shown as a table whose cells are shaded by value; the numbers stay readable.
export function matrix(caption, names, values) {
  const shade = (value) => {
    if (value === null) return el("span", { text: "no path" });
    const strength = Math.round(Math.max(0, Math.min(1, value)) * 45);
    return el("span", {
      text: value.toFixed(2),
      style: `background: color-mix(in srgb, var(--accent) ${strength}%, transparent); padding: 0 .35rem; border-radius: .2rem`,
    });
  };
  return table(caption, ["", ...names.map((_, i) => String(i + 1))], values.map((row, i) => [`${i + 1}. ${names[i]}`, ...row.map(shade)]));
}

export function bars(caption, items, unit = "") {
  const most = Math.max(...items.map((item) => item.value), Number.MIN_VALUE);
  return el(
    "div",
    { role: "list", "aria-label": caption },
    el("p", { text: caption }),
    ...items.map((item) =>
      el(
        "div",
        { class: "bar", role: "listitem" },
        el("span", { text: item.name }),
        el("i", { style: `width: ${(100 * item.value) / most}%`, "aria-hidden": "true" }),
        el("b", { text: `${digits(item.value)}${unit}` }),
      ),
    ),
  );
}

export function picture(blob, caption) {
  const image = el("img", { alt: caption, src: URL.createObjectURL(blob) });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  return el("figure", { class: "picture", tabindex: "0" }, image, el("figcaption", { text: caption }));
}

export function pieces(list) {
  return el("p", {}, ...list.map((text) => el("span", { class: "piece", text })));
}

export function sentence(item) {
  const { reviews, sentences, review_ids: ids } = item.support;
  return el(
    "blockquote",
    {},
    el("span", { text: item.text }),
    el("small", {
      text: `from ${item.review_id}, characters ${item.start}–${item.end}; said by ${reviews} reviews in ${sentences} sentences: ${ids.join(", ")}`,
    }),
  );
}
