"""Types generated from the document fit its own examples, and a client with them reaches it all."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.examples import Operation, make_stored, operations, send
from tests.support.processes import ServiceProcess, start_service

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "openapi" / "clients" / "typescript"
DOCUMENT = json.loads((ROOT / "openapi" / "openapi.json").read_text(encoding="utf-8"))
TOKENIZER = ROOT / "models" / "tokenizers" / "isotrope-unigram-32k.model"
HEAD = """\
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import { events } from "./events.js";
import type { paths } from "./generated/schema.js";

const url = process.argv[2] ?? "";
const client = createClient<paths>({ baseUrl: url });
const done: string[] = [];
function check(name: string, status: number, good: number[], error: unknown): void {
  if (!good.includes(status)) throw new Error(`${name}: ${status} ${JSON.stringify(error)}`);
  done.push(name);
}
"""
FORM = """\
const form = new FormData();
form.append("name", "from-typescript");
form.append("file", new Blob([file]), "x.model");
"""
TAIL = """\
{
  const params = { path: { model_id: "nobody" } };
  const { data, error } = await client.GET("/v1/models/{model_id}", { params });
  if (data !== undefined || error.code !== "unknown_model") throw new Error("no typed problem");
}
{
  const answer = await fetch(`${url}/v1/opinions/summarize`, {
    method: "POST",
    headers: { Accept: "text/event-stream", "Content-Type": "application/json" },
    body: JSON.stringify({ reviews: ["Good food. Bad room.", "Good food!"] }),
  });
  const names: string[] = [];
  for await (const event of events(answer)) names.push(event.name);
  if (names.at(-1) !== "result") throw new Error(`stream ended with ${names.at(-1)}`);
}
console.log(JSON.stringify(done));
"""
pytestmark = pytest.mark.timeout(400)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program; what it printed is in the failure."""
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the client's sources, its packages, and the generated types."""
    npm = shutil.which("npm")
    assert npm, "Node.js with npm is needed: apt-get install nodejs npm"
    if not (SOURCE / "node_modules").exists():
        run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=SOURCE)
    folder = tmp_path_factory.mktemp("typescript")
    for name in ("package.json", "tsconfig.json", "events.ts"):
        shutil.copy(SOURCE / name, folder)
    (folder / "node_modules").symlink_to(SOURCE / "node_modules")
    binary = folder / "node_modules" / ".bin" / "openapi-typescript"
    # A field with a default may be left out; without the option its type says it must be there.
    document = ROOT / "openapi" / "openapi.json"
    run(binary, document, "-o", "generated/schema.ts", "--default-non-nullable=false", cwd=folder)
    return folder


def calls(operation: Operation, stored: dict[str, str]) -> Iterator[str]:
    """Yield the options of each call to make, as TypeScript."""
    parameters = operation.details.get("parameters", ())
    path = {each["name"]: stored[each["name"]] for each in parameters if each.get("in") == "path"}
    options = [f"params: {{ path: {json.dumps(path)} }}"] if path else []
    good = next(each for status, each in operation.details["responses"].items() if status[0] == "2")
    if "application/json" not in good.get("content", {}):
        options.append('parseAs: "arrayBuffer"')
    if operation.name == "upload_tokenizer":
        file = f"new Uint8Array(await readFile({json.dumps(str(TOKENIZER))}))"
        options += [
            'body: { name: "from-typescript", file: "" }',
            f"bodySerializer: () => {{ {FORM} return form; }}",
        ]
        yield f"__FILE__{file}__FILE__" + ", ".join(options)
        return
    if operation.schema is None:
        yield ", ".join(options)
    for example in operation.examples:
        yield ", ".join([*options, f"body: {json.dumps(example)}"])


def written(operation: Operation, stored: dict[str, str]) -> Iterator[str]:
    """Yield the statements that make one operation's calls."""
    good = [int(status) for status in operation.details["responses"] if status[0] == "2"]
    for options in calls(operation, stored):
        _, file, rest = options.split("__FILE__") if "__FILE__" in options else ("", "", options)
        before = f"const file = {file}; " if file else ""
        yield (
            f"{{ {before}const {{ response, error }} = await client.{operation.method}"
            f"({json.dumps(operation.path)}, {{ {rest} }}); "
            f"check({json.dumps(operation.name)}, response.status, {good}, error); }}"
        )


@pytest.fixture(scope="module")
def fresh(models_dir: Path) -> Iterator[ServiceProcess]:
    """Return a service of its own: the examples create things by name, once."""
    with start_service(models_dir) as process:
        yield process


def test_types_are_strict_and_every_operation_is_reached(
    workshop: Path, fresh: ServiceProcess
) -> None:
    stored = make_stored(DOCUMENT, send(fresh.url), TOKENIZER)
    known = tuple(operations(DOCUMENT))
    lines = [line for each in known for line in written(each, stored)]
    (workshop / "drive.ts").write_text(HEAD + "\n".join(lines) + "\n" + TAIL, encoding="utf-8")
    run(workshop / "node_modules" / ".bin" / "tsc", cwd=workshop)
    reached = json.loads(run("node", "build/drive.js", fresh.url, cwd=workshop))
    assert set(reached) == {each.name for each in known}
