"""Define `isotrope` and its commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from service import __version__
from service.cli import models

app = typer.Typer(
    name="isotrope",
    help="Serve the geometry of text: embeddings and what comes after them, over ONNX models.\n\n"
    "Settings come from the environment as SERVICE_<NAME>; `isotrope settings` explains each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="models")


@app.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Serve the geometry of text."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beats SERVICE_HOST.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; beats SERVICE_PORT; 0 picks one.")
    ] = None,
) -> None:
    """Start the service and keep it running until SIGTERM or Ctrl-C.

    The models of SERVICE_PRELOAD_MODELS (by default the default model) are loaded and warmed
    before the port opens; others load on first use.
    """
    from service.cli.server import serve_until_told

    given = {"host": host, "port": port}
    sys.exit(serve_until_told({name: value for name, value in given.items() if value is not None}))


@app.command()
def kernels() -> None:
    """Compile the numeric kernels ahead, so that neither start nor request waits for a compiler.

    They are kept beside the source, or in NUMBA_CACHE_DIR; the second time costs a moment.
    """
    from importlib import import_module
    from time import perf_counter

    from service.registry import CAPABILITIES

    for name in dict.fromkeys(name for room in CAPABILITIES for name in room.kernels):
        started = perf_counter()
        import_module(name)
        typer.echo(f"{name}: {perf_counter() - started:.1f} s")


@app.command()
def openapi(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; absent prints it.")
    ] = None,
) -> None:
    """Write the OpenAPI document, keys sorted, without starting anything."""
    import orjson

    from service.app import create_app
    from service.settings import Settings

    document = create_app(Settings(log_level="error", access_log=False)).openapi()
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_bytes(text)


@app.command()
def settings() -> None:
    """Explain every setting: its variable, its default, and what happens when it is wrong."""
    from pydantic_settings import BaseSettings

    from service.registry import CAPABILITIES
    from service.settings import Settings

    kinds: list[type[BaseSettings]] = [Settings, *(room.settings for room in CAPABILITIES)]
    for kind in kinds:
        prefix = kind.model_config.get("env_prefix", "")
        for name, field in kind.model_fields.items():
            default = field.get_default(call_default_factory=False)
            typer.secho(f"{prefix}{name}".upper(), bold=True, nl=False)
            typer.echo(f"  (default: {'computed' if field.default_factory else default!r})")
            typer.echo(f"    {field.description}")


def run() -> None:
    """Run the command line."""
    app()
