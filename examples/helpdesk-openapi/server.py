"""A helpdesk over HTTP: tickets in pages, people who may be away, one key, in one JSON file.

    python server.py FOLDER PORT      answers at http://127.0.0.1:PORT; helpdesk.json in FOLDER is its state
    python server.py --openapi        prints openapi.json

It is deterministic (ids are counted, no clock is read), keeps everything in that file, and its errors say what to do next.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Body, Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

KEY = "helpdesk-demo"
"""Not a secret: world.yaml sends it. A key of yours comes from the environment, as `Authorization: {env: NAME}`."""
PAGE = 5
"""Tickets of a page."""

Priority = Literal["low", "normal", "high"]
Status = Literal["open", "closed"]


class State:
    """Everything there is, written after each change so that a file is whole or the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = json.loads(path.read_text(encoding="utf-8"))
        self.people: list[dict[str, Any]] = found["people"]
        self.tickets: list[dict[str, Any]] = found["tickets"]

    def save(self) -> None:
        text = json.dumps({"people": self.people, "tickets": self.tickets}, ensure_ascii=False, indent=1)
        new = self.path.with_suffix(".new")
        new.write_text(text + "\n", encoding="utf-8")
        os.replace(new, self.path)

    def ticket(self, id: int) -> dict[str, Any]:
        found = next((each for each in self.tickets if each["id"] == id), None)
        if found is None:
            raise HTTPException(404, f"no ticket {id}; list_tickets gives the ids")
        return found

    def open_ticket(self, id: int) -> dict[str, Any]:
        found = self.ticket(id)
        if found["status"] == "closed":
            raise HTTPException(409, f"ticket {id} is closed")
        return found


state: State


def with_key(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
    """Refuse whoever does not know the key."""
    if given is None or given.credentials != KEY:
        raise HTTPException(401, "the key is missing or wrong; send it as Authorization: Bearer KEY")


app = FastAPI(title="Helpdesk", version="1", dependencies=[Depends(with_key)])


@app.get("/tickets", operation_id="list_tickets")
async def list_tickets(
    text: Annotated[str, Query(description="Part of the subject.")] = "",
    page: Annotated[int, Query(ge=1)] = 1,
) -> dict[str, Any]:
    """Tickets by id, five to a page."""
    found = [each for each in state.tickets if text in each["subject"]]
    pages = max(1, -(-len(found) // PAGE))
    return {"tickets": found[(page - 1) * PAGE : page * PAGE], "page": page, "pages": pages}


@app.post("/tickets", operation_id="open_ticket", status_code=201)
async def open_ticket(
    subject: Annotated[str, Body()],
    customer: Annotated[str, Body()],
    priority: Annotated[Priority, Body()] = "normal",
) -> dict[str, Any]:
    """Open a ticket."""
    if not subject.strip():
        raise HTTPException(422, "a ticket needs a subject")
    id = 1 + max((each["id"] for each in state.tickets), default=0)
    state.tickets.append(
        {"id": id, "subject": subject, "customer": customer, "priority": priority, "status": "open", "notes": []}
    )
    state.save()
    return {"id": id}


@app.get("/people", operation_id="list_people")
async def list_people() -> list[dict[str, Any]]:
    """Who works here, and who is away."""
    return state.people


@app.put("/tickets/{id}/assignee", operation_id="assign_ticket")
async def assign_ticket(id: int, person: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
    """Give a ticket to somebody who is here."""
    found = state.open_ticket(id)
    here = [each["name"] for each in state.people if not each.get("away")]
    if person not in [each["name"] for each in state.people]:
        raise HTTPException(422, f"nobody is called {person!r}; there are {', '.join(here)}")
    if person not in here:
        raise HTTPException(409, f"{person} is away; here are {', '.join(here)}")
    found["assignee"] = person
    state.save()
    return found


@app.put("/tickets/{id}/priority", operation_id="set_priority")
async def set_priority(id: int, priority: Annotated[Priority, Body(embed=True)]) -> dict[str, Any]:
    """Set a ticket's priority."""
    found = state.open_ticket(id)
    found["priority"] = priority
    state.save()
    return found


@app.post("/tickets/{id}/notes", operation_id="add_note", status_code=201)
async def add_note(id: int, text: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
    """Add a note to a ticket."""
    found = state.open_ticket(id)
    if not text.strip():
        raise HTTPException(422, "a note needs a text")
    found["notes"].append(text)
    state.save()
    return found


@app.post("/tickets/{id}/close", operation_id="close_ticket")
async def close_ticket(id: int) -> dict[str, Any]:
    """Close a ticket that somebody has."""
    found = state.open_ticket(id)
    if "assignee" not in found:
        raise HTTPException(409, f"ticket {id} has no assignee; assign_ticket comes first")
    found["status"] = "closed"
    state.save()
    return found


@app.post("/tickets/{id}/merge", operation_id="merge_ticket")
async def merge_ticket(id: int, into: Annotated[int, Body(embed=True)]) -> dict[str, Any]:
    """Close a ticket that says the same as another, which is told in its notes."""
    found, other = state.open_ticket(id), state.open_ticket(into)
    if found is other:
        raise HTTPException(422, "a ticket cannot be merged into itself")
    found["status"] = "closed"
    other["notes"].append(f"same as {id}")
    state.save()
    return other


if __name__ == "__main__":
    if sys.argv[1:] == ["--openapi"]:
        print(json.dumps(app.openapi(), ensure_ascii=False, indent=2))
    elif len(sys.argv) == 3 and sys.argv[2].isdigit():
        state = State(Path(sys.argv[1]) / "helpdesk.json")
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", lifespan="off", ws="none")
    else:
        sys.exit("usage: python server.py FOLDER PORT, or python server.py --openapi")
