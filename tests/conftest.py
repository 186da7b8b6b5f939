"""Lend real models, a real service process and an application in this process."""

from __future__ import annotations

import os

# Before anything imports onnxruntime: it would write a device id below HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings, default_models_dir
from tests.support.processes import ServiceProcess, start_service

DEFAULT_MODEL = "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def fresh_logs() -> None:
    """Undo what an application of another test set: its level would hide lines from this one."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Return the folder of built models; `make test` builds them."""
    folder = Path(os.environ.get("SERVICE_MODELS_DIR", default_models_dir()))
    if not (folder / DEFAULT_MODEL / "manifest.json").is_file():
        pytest.fail(f"There is no {DEFAULT_MODEL} to test with: run `isotrope models build`.")
    return folder


@pytest.fixture(scope="session", autouse=True)
def data_location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder that every `Settings` of this session means; never the user's own."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_DATA_LOCATION", str(folder))
        yield folder


@pytest.fixture(scope="session")
def settings(models_dir: Path) -> Settings:
    return Settings(models_dir=models_dir, access_log=False, log_level="error")


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[TestClient]:
    """Return a client of an application in this process, its lifespan running."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="session")
def live(models_dir: Path) -> Iterator[ServiceProcess]:
    """Return a service in a process of its own, started as a user starts it.

    Its texts are short: what is asked of it is thousands of requests.
    """
    short = {"SERVICE_GENERATION_DEFAULT_TOKENS": "4", "SERVICE_GENERATION_MAX_TOKENS": "16"}
    with start_service(models_dir, short) as process:
        yield process
