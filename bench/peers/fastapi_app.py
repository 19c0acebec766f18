"""The peer that the targets are set against: FastAPI on uvicorn (uvloop, httptools), one process.

``python fastapi_app.py PORT DATA UPSTREAM POLL_SECONDS``
"""

import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from core import HEADERS, BadForm, Tasks
from fastapi import FastAPI, Form, Header, Request, UploadFile
from fastapi.responses import JSONResponse

port, data, upstream, poll = sys.argv[1:]
tasks = Tasks(Path(data), upstream, float(poll))
app = FastAPI(lifespan=lambda app: tasks.lifespan())

Prefer = Annotated[str | None, Header()]


@app.post("/")
async def post(name: Annotated[str, Form()], photo: UploadFile, prefer: Prefer = None) -> JSONResponse:
    code, body, headers = await tasks.post(name, await photo.read(), prefer)
    return JSONResponse(body, code, headers)


@app.get("/")
async def get(task_id: int, prefer: Prefer = None) -> JSONResponse:
    code, body, headers = await tasks.get(task_id, prefer)
    return JSONResponse(body, code, headers)


@app.exception_handler(BadForm)
async def bad_form(request: Request, error: BadForm) -> JSONResponse:
    return JSONResponse({"title": str(error), "status": error.status}, error.status, HEADERS)


how = {"loop": "uvloop", "http": "httptools", "backlog": 1024, "timeout_keep_alive": 60}
uvicorn.run(app, host="127.0.0.1", port=int(port), **how)
