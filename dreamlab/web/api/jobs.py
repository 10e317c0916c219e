"""Runs over HTTP: submit, list, look, act, delete."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from dreamlab.core.run_folder import RunFolder
from dreamlab.web.api.answers import Answer, AtDesk, documented
from dreamlab.web.api.bodies import Export, JobList, NewPriority, Rerun, Submission
from dreamlab.web.api.records import Record, Records
from dreamlab.web.errors import NotFoundError
from dreamlab.web.listing import MAX_PAGE
from dreamlab.web.service import Action, Service
from dreamlab.web.views import Checked, JobView

MAX_OFFSET = 10**9
Order = Literal["newest", "oldest", "prompt", "queue"]


def router(service: Service, at_desk: AtDesk, records: Records) -> APIRouter:
    """Make the routes."""
    api = APIRouter(tags=["jobs"])

    @api.post("/check", response_model=Checked, responses=documented(404, 429))
    async def check(body: Submission) -> Answer:
        """Say what a run would be, without queueing it: settings, unknown words, estimate."""
        return Answer(await at_desk(service.check, body.wish()))

    @api.post("/jobs", status_code=201, response_model=JobView, responses=documented(404, 413, 429))
    async def submit(body: Submission) -> Answer:
        """Queue a run."""
        folder = await at_desk(service.submit, body.wish())
        return Answer(service.describe(folder), 201)

    @api.get("/jobs", response_model=JobList, responses=documented())
    def list_jobs(
        request: Request,
        words: Annotated[str, Query(description="Each must occur in prompt, name or recipe.")] = "",
        state: Annotated[
            list[str] | None, Query(description="Only these; several times or with commas.")
        ] = None,
        favourites: Annotated[bool, Query(description="Only those that are marked.")] = False,
        order: Order = "newest",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    ) -> Answer:
        """List runs, page by page."""
        states = [name for given in state or [] for name in given.split(",") if name]
        page = service.search(
            words, states=states, favourites=favourites, order=order, limit=limit, offset=offset
        )
        found: list[Record] = []
        for entry in page.entries:
            try:
                found.append(records.get(RunFolder(entry.root)))
            except NotFoundError:
                continue  # deleted since the folders were looked at
        records.learn(
            request.scope["query_string"],
            (words, tuple(states), favourites, order, offset, limit),
        )
        return Answer(records.page(page.total, found))

    @api.get("/jobs/{name}", response_model=JobView, responses=documented(404))
    async def get_job(name: str) -> Answer:
        """Show a run."""
        # no thread: it is asked for all the time, and takes no longer than changing threads
        record = records.get(service.open(name))
        return Answer(record.body, headers=record.headers)

    @api.delete("/jobs/{name}", status_code=204, responses=documented(404, 409))
    def delete_job(name: str) -> Response:
        """Remove a run with all its files."""
        service.delete(service.open(name))
        return Response(status_code=204)

    @api.post(
        "/jobs/{name}/rerun",
        status_code=201,
        response_model=JobView,
        responses=documented(404, 429),
    )
    async def rerun(name: str, body: Rerun) -> Answer:
        """Queue a run with the settings of another one, changed."""
        folder = await at_desk(service.rerun, service.open(name), body.changes())
        return Answer(service.describe(folder), 201)

    @api.post(
        "/jobs/{name}/export", status_code=202, response_model=JobView, responses=documented(404)
    )
    async def export(name: str, body: Export) -> Answer:
        """Queue a new export of a run that is done, or stopped and kept.

        The run then waits and runs again, and comes back to the state that it had; if the export
        fails, `reason` and `fix` of its record say why.
        """
        folder = service.open(name)
        await at_desk(service.export, folder, body.settings)
        return Answer(service.describe(folder), 202)

    @api.post("/jobs/{name}/priority", response_model=JobView, responses=documented(404, 409))
    def set_priority(name: str, body: NewPriority) -> Answer:
        """Change when a queued run has its turn."""
        folder = service.open(name)
        service.set_priority(folder, body.priority)
        return Answer(service.describe(folder))

    @api.post("/jobs/{name}/{action}", response_model=JobView, responses=documented(404, 409, 429))
    def act(name: str, action: Action) -> Answer:
        """Stop and keep, pause, cancel, resume, copy or mark a run; shows the copy of a copied one.

        A run that is at work ends after its step, so it may still be shown as running.
        """
        return Answer(service.describe(service.act(service.open(name), action)))

    return api
