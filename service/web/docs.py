"""Serve the playground and the API reference without any address outside the service."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

_ASSETS = "/docs/assets"
_PLAYGROUND = "/playground"
_PAGES = Path(str(files("service.web") / "assets"))
# The page talks to the service that sent it and to nobody else; pictures come as blobs.
_POLICY = "default-src 'self'; img-src 'self' blob:; style-src 'self' 'unsafe-inline'"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def show_start() -> FileResponse:
    """Return the playground: every family on one page."""
    return FileResponse(
        _PAGES / "playground" / "index.html",
        headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"},
    )


@router.get("/docs")
async def show_docs() -> HTMLResponse:
    """Return the API reference, with its scripts from this service."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Isotrope API",
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon-32x32.png",
        # its validator badge would call an address outside
        swagger_ui_parameters={"validatorUrl": None},
    )


def mount_docs(app: FastAPI) -> None:
    """Give an application its two pages and their assets."""
    app.mount(_ASSETS, StaticFiles(directory=_PAGES / "swagger-ui"), name="docs_assets")
    app.mount(_PLAYGROUND, StaticFiles(directory=_PAGES / "playground"), name="playground")
    app.include_router(router)
