"""Serve the API reference without any address outside the service."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

_ASSETS = "/docs/assets"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def show_start() -> RedirectResponse:
    """Send a browser that opens the bare address to the reference."""
    return RedirectResponse("/docs")


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
    """Give an application its reference page and the page's assets."""
    folder = str(files("service.web") / "assets" / "swagger-ui")
    app.mount(_ASSETS, StaticFiles(directory=folder), name="docs_assets")
    app.include_router(router)
