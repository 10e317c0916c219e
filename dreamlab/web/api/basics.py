"""What there is to use, over HTTP: the server itself, recipes with their settings, models."""

from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from dreamlab.web.api.answers import Answer, AtDesk, documented
from dreamlab.web.api.bodies import ModelId
from dreamlab.web.errors import TooManyError, WebError
from dreamlab.web.service import Service
from dreamlab.web.views import Health, RecipeView, SettingView

MAX_UPLOADS = 4
"""That are received at once; each is held in memory until it is checked."""
GLB = {"schema": {"type": "string", "format": "binary"}}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"model/gltf-binary": GLB, "application/octet-stream": GLB},
    }
}


def router(service: Service, at_desk: AtDesk) -> APIRouter:
    """Make the routes."""
    api = APIRouter()
    uploads = 0

    @api.get("/health", response_model=Health, responses=documented(), tags=["server"])
    def health() -> Answer:
        """Say that the server is there, and how much it has to do."""
        return Answer(service.health())

    @api.get("/recipes", response_model=list[RecipeView], responses=documented(), tags=["recipes"])
    def recipes() -> Answer:
        """List the recipes."""
        return Answer(service.recipes())

    @api.get(
        "/recipes/{name}/settings",
        response_model=list[SettingView],
        responses=documented(404, 429),
        tags=["recipes"],
    )
    async def settings(
        name: str,
        quality: Annotated[
            Literal["draft", "standard", "high"] | None, Query(description="Defaults of this one.")
        ] = None,
        prompt: Annotated[
            str | None, Query(description="One of several things has some other defaults.")
        ] = None,
    ) -> Answer:
        """List every setting of a recipe, with its type, its default and what it does."""
        return Answer(await at_desk(service.settings, name, quality, prompt))

    @api.post(
        "/models",
        status_code=201,
        response_model=ModelId,
        responses=documented(413, 429),
        openapi_extra=UPLOAD,
        tags=["models"],
    )
    async def add_model(request: Request) -> Answer:
        """Upload a model (.glb, at most 64 MB, packed, not compressed) for runs to start from."""
        nonlocal uploads
        if uploads >= MAX_UPLOADS:
            raise TooManyError(f"{uploads} models are being sent.", "try again in a while.")
        uploads += 1
        try:
            content = await request.body()
            name = await anyio.to_thread.run_sync(service.add_model, content)
        except ClientDisconnect:
            raise WebError("the model did not arrive whole.", "send it again.") from None
        finally:
            uploads -= 1
        return Answer(ModelId(name), 201)

    return api
