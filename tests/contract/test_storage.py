"""Storage that cannot be used costs what is stored, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from pydantic_settings import BaseSettings
from starlette.testclient import TestClient

from service import registry
from service.app import create_app
from service.settings import Settings, default_data_location
from service.stores.versions import Versions
from service.web.capability import Capability, CurrentLent, Lent
from tests.contract.problems import expect_problem


class _Cellar:
    """Be the pipeline of a room that only these tests have."""


@asynccontextmanager
async def _open_cellar(_: Lent, __: BaseSettings) -> AsyncIterator[_Cellar]:
    yield _Cellar()


async def _keep(name: str, lent: CurrentLent) -> dict[str, Any]:
    made = await Versions(lent.objects, "bottles").create(name, metadata={}, blobs={"b": b"1"})
    return {"id": made.id}


async def _look(artefact_id: str, lent: CurrentLent) -> dict[str, Any]:
    return {"id": (await Versions(lent.objects, "bottles").find(artefact_id)).id}


@contextmanager
def _service(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    router = APIRouter()
    router.add_api_route("/v1/bottles/{name}", _keep, methods=["POST"], status_code=201)
    router.add_api_route("/v1/bottles/{artefact_id}", _look)
    cellar = Capability("cellar", "Kept things.", router, BaseSettings, _open_cellar)
    monkeypatch.setattr(registry, "CAPABILITIES", (*registry.CAPABILITIES, cellar))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def _settings(models_dir: Path, location: object) -> Settings:
    return Settings(
        models_dir=models_dir,
        data_location=str(location),
        log_level="critical",
        access_log=False,
    )


def test_what_is_made_outlives_the_process(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(models_dir, tmp_path / "data")
    with _service(settings, monkeypatch) as client:
        assert client.post("/v1/bottles/red").json() == {"id": "red@1"}
    with _service(settings, monkeypatch) as client:
        assert client.get("/v1/bottles/red").json() == {"id": "red@1"}
        assert client.post("/v1/bottles/red").json() == {"id": "red@2"}
        expect_problem(client.get("/v1/bottles/white"), 404, "unknown_artefact", "white")
        refusal = expect_problem(client.post("/v1/bottles/.red"), 422, "invalid_input", ".red")
        assert refusal["errors"] == [
            {"pointer": "/name", "detail": "does not match [A-Za-z0-9][A-Za-z0-9._-]{0,63}"}
        ]


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_without_storage_everything_else_answers(
    kind: str, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = str(tmp_path / "file" / "data")
    (tmp_path / "file").write_bytes(b"")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        if kind == "bucket":
            location = "s3://bottles/here"
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with _service(_settings(models_dir, location), monkeypatch) as client:
            answer = client.post("/v1/bottles/red")
            problem = expect_problem(answer, 503, "storage_unavailable", "SERVICE_DATA_LOCATION")
            assert problem["retryable"] is True
            assert answer.headers["retry-after"] == "5"
            assert str(tmp_path) not in answer.text
            info = client.get("/v1/info")
            storage = info.json()["storage"]
            assert (storage["kind"], storage["location"]) == (kind, location)
            assert storage["state"] == "unusable"
            assert isinstance(storage["problem"], str)
            assert "wJalrXUtnFEMI" not in info.text
            assert "AKIAIOSFODNN" not in info.text
            assert client.get("/readyz").json()["status"] == "ready"
            assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 200


def test_the_default_is_the_users_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_location() == str(tmp_path / "isotrope")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_location() == str(tmp_path / ".local" / "share" / "isotrope")
    monkeypatch.delenv("SERVICE_DATA_LOCATION")
    assert Settings().data_location == default_data_location()
