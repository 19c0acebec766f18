"""The peer that the targets are set against: FastAPI on uvicorn (uvloop, httptools), one process.

``python fastapi_app.py PORT DATA UPSTREAM POLL_SECONDS``
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import uvicorn
from core import HEADERS, NOT_FOUND, BadForm, Tasks, preferred_wait
from fastapi import FastAPI, Form, Header, Request, UploadFile
from fastapi.responses import JSONResponse


def make_app(data: Path, upstream: str, poll: float) -> FastAPI:
    """The application with its tasks."""
    tasks: Tasks

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal tasks
        tasks = Tasks(data, upstream, poll)
        async with tasks.lifespan():
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/")
    async def submit(
        name: Annotated[str, Form()], photo: UploadFile, prefer: Annotated[str | None, Header()] = None
    ) -> JSONResponse:
        task = await tasks.submit(name, await photo.read())
        if task.state != "ready" and (wait := preferred_wait(prefer)) is not None:
            task = await tasks.hold(task.id, wait) or task
        code, body, headers = task.received()
        return JSONResponse(body, code, headers)

    @app.get("/")
    async def tell(task_id: int, prefer: Annotated[str | None, Header()] = None) -> JSONResponse:
        wait = preferred_wait(prefer)
        task = await (tasks.find(task_id) if wait is None else tasks.hold(task_id, wait))
        if task is None:
            return JSONResponse(NOT_FOUND, 404, HEADERS)
        code, body, headers = task.status()
        return JSONResponse(body, code, headers)

    @app.exception_handler(BadForm)
    async def bad_form(request: Request, error: BadForm) -> JSONResponse:
        return JSONResponse({"title": str(error), "status": error.status}, error.status, HEADERS)

    return app


if __name__ == "__main__":
    app = make_app(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        backlog=1024,
        timeout_keep_alive=60,
    )
