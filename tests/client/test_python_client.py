"""A client generated from the document reaches every operation of the live service."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest

from tests.support.examples import Operation, make_stored, operations, send
from tests.support.processes import ServiceProcess, start_service

ROOT = Path(__file__).parents[2]
DOCUMENT = json.loads((ROOT / "openapi" / "openapi.json").read_text(encoding="utf-8"))
TOKENIZER = ROOT / "models" / "tokenizers" / "isotrope-unigram-32k.model"
# /readyz and the like answer 503 while a process stops; here all are well
OPERATIONS = tuple(operations(DOCUMENT))
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def live(models_dir: Path) -> Iterator[ServiceProcess]:
    """Return a service of its own: the examples create things by name, once."""
    with start_service(models_dir) as process:
        yield process


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generate the client as `make clients` does; a warning of the generator is a failure."""
    folder = tmp_path_factory.mktemp("client")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"),
            *("generate", "--path", ROOT / "openapi" / "openapi.json", "--meta", "none"),
            *("--config", ROOT / "openapi" / "clients" / "python" / "config.yml"),
            *("--output-path", folder / "isotrope_client", "--fail-on-warning"),
        ],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": str(Path(sys.executable).parent)},
    )
    assert done.returncode == 0, done.stdout[:4000] + done.stderr[-2000:]
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def client(generated: Path, live: ServiceProcess) -> Iterator[Any]:
    kind = importlib.import_module("isotrope_client.client").Client
    with kind(live.url, timeout=httpx.Timeout(120.0)) as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(live: ServiceProcess) -> dict[str, str]:
    return make_stored(DOCUMENT, send(live.url), TOKENIZER)


def bodies(operation: Operation, call: Any) -> Iterator[dict[str, Any]]:
    """Yield the body argument of each call to make, as the generated models."""
    hints = get_type_hints(call, include_extras=True)
    if operation.name == "upload_tokenizer":
        types = importlib.import_module("isotrope_client.types")
        kind = importlib.import_module("isotrope_client.models").BodyUploadTokenizer
        with TOKENIZER.open("rb") as file:
            yield {"body": kind(file=types.File(payload=file, file_name="x.model"), name="again")}
        return
    if operation.schema is None:
        yield {}
        return
    offered = get_args(hints["body"]) or (hints["body"],)
    kind = next(each for each in offered if hasattr(each, "from_dict"))
    for example in operation.examples:
        yield {"body": kind.from_dict(example)}


def call(client: Any, stored: dict[str, str], operation: Operation) -> str | None:
    """Make one operation's calls; return what went wrong, if anything did."""
    module = importlib.import_module(f"isotrope_client.api.{operation.tag}.{operation.name}")
    parameters = inspect.signature(module.sync_detailed).parameters
    given = {name: stored[name] for name in parameters if name in stored}
    good = {int(status) for status in operation.details["responses"] if status[0] == "2"}
    for body in bodies(operation, module.sync_detailed):
        answer = module.sync_detailed(**given, **body, client=client)
        if answer.status_code not in good:
            return f"{operation.name}: {answer.status_code} {answer.content[:300]!r}"
    return None


def test_every_operation_is_reached(client: Any, stored: dict[str, str]) -> None:
    # one test, since the order matters: what deletes comes last
    wrong = [call(client, stored, operation) for operation in OPERATIONS]
    assert [each for each in wrong if each is not None] == []


def test_a_refusal_is_a_typed_problem(client: Any, generated: Path) -> None:
    get = importlib.import_module("isotrope_client.api.discovery.get_model")
    problem = get.sync(model_id="nobody", client=client)
    assert type(problem).__name__ == "Problem"
    assert (problem.status, problem.code) == (404, "unknown_model")


def test_streams_are_read_event_by_event(live: ServiceProcess) -> None:
    path = ROOT / "openapi" / "clients" / "python" / "events.py"
    spec = importlib.util.spec_from_file_location("isotrope_events", path)
    assert spec is not None
    assert spec.loader is not None
    reader = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = reader
    spec.loader.exec_module(reader)
    accept = {"Accept": "text/event-stream"}
    url = f"{live.url}/v1/opinions/summarize"
    body: dict[str, Any] = {"reviews": ["Good food. Bad room.", "Good food!", "The food was good."]}
    with httpx.stream("POST", url, json=body, headers=accept, timeout=60) as answer:
        names = [event.name for event in reader.events(answer.iter_lines())]
    assert names[-1] == "result"
    assert set(names[:-1]) <= {"progress"}
    body["reviews"] = ["..."]
    with (
        httpx.stream("POST", url, json=body | {"model": "nobody"}, headers=accept) as answer,
        pytest.raises(reader.StreamError, match="nobody"),
    ):
        list(reader.events(answer.iter_lines()))
