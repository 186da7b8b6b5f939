// Write a request as somebody would send it from elsewhere.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function python(value, indent = "") {
  const inner = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) {
    return value.length ? `[\n${value.map((each) => `${inner}${python(each, inner)},\n`).join("")}${indent}]` : "[]";
  }
  if (typeof value === "object") {
    const rows = Object.entries(value).map(([key, each]) => `${inner}${JSON.stringify(key)}: ${python(each, inner)},\n`);
    return `{\n${rows.join("")}${indent}}`;
  }
  return JSON.stringify(value);
}

export const LANGUAGES = {
  curl(request, origin) {
    const body = request.body
      ? ` \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(request.body))}`
      : "";
    return `curl -s -X ${request.method ?? "POST"} ${origin}${request.path}${body}`;
  },
  Python(request, origin) {
    const method = (request.method ?? "POST").toLowerCase();
    const body = request.body ? `,\n    json=${python(request.body, "    ")},\n    timeout=600,\n` : "";
    return `import httpx\n\nanswer = httpx.${method}(\n    "${origin}${request.path}"${body})\nanswer.raise_for_status()\nprint(answer.json())`;
  },
  TypeScript(request, origin) {
    const body = request.body
      ? `,\n  headers: { "Content-Type": "application/json" },\n  body: JSON.stringify(${JSON.stringify(request.body, null, 2).replaceAll("\n", "\n  ")}),`
      : ",";
    return `const answer = await fetch("${origin}${request.path}", {\n  method: "${request.method ?? "POST"}"${body}\n});\nif (!answer.ok) throw new Error((await answer.json()).detail);\nconsole.log(await answer.json());`;
  },
};
