"""What can go wrong in the world of small questions; see `benchmark/worlds/troubles.py`."""

from __future__ import annotations

from typing import Protocol

from benchmark.worlds.tools import Called, cut_off
from benchmark.worlds.troubles import By, Trouble, Troubles, Use, Values
from benchmark.worlds.world import Task


class Struck(Protocol):
    """What troubles ask of this world."""

    task: Task

    def rename_table(self, table: str) -> None: ...

    def fill(self) -> Values: ...


ANY = ("reckoning", "looking up")

TROUBLES: Troubles[Struck, Called] = Troubles(
    (
        Trouble("busy", "busy, nothing was done, try again", occasions=ANY),
        Trouble("timed_out", "timed out, nothing was done, try again", occasions=ANY),
        Trouble("malformed", "malformed output, cut off: {start}", occasions=ANY, happens=cut_off),
        Trouble(
            "rate_limited",
            "too many requests, wait {seconds} seconds",
            By("wait", {"seconds": "{seconds}"}),
            ANY,
            happens=lambda world, called: {"lasts_s": world.task.parameters["wait_s"]},
            refuses=lambda world, tool, given, values: tool != "wait",
            yields=True,
        ),
        Trouble(
            "signed_out",
            "the session has ended, sign in",
            By("sign_in"),
            ANY,
            refuses=lambda world, tool, given, values: tool not in ("sign_in", "wait"),
            yields=True,
        ),
        Trouble(
            "stale",
            "the table {table!r} was changed, reload it",
            By("reload_table", {"table": "{table}"}),
            ("looking up",),
            happens=lambda world, called: {"table": called.given["table"]},
            refuses=lambda world, tool, given, values: (tool, given.get("table")) == ("look_up", values["table"]),
            yields=True,
        ),
        Trouble(
            "renamed",
            "no table {table!r}, it is called {now!r} now",
            Use("table", "now"),
            ("looking up",),
            happens=lambda world, called: world.rename_table(called.given["table"]),
        ),
        Trouble(
            "locked",
            "the note {name!r} is locked",
            By("unlock_note", {"name": "{name}"}),
            ("saving",),
            happens=lambda world, called: {"name": called.given["name"]},
            refuses=lambda world, tool, given, values: (tool, given.get("name")) == ("save_note", values["name"]),
            yields=True,
        ),
        Trouble(
            "full",
            "no room, delete the note {name!r}",
            By("delete_note", {"name": "{name}"}),
            ("saving",),
            happens=lambda world, called: world.fill(),
            refuses=lambda world, tool, given, values: tool == "save_note",
            yields=True,
        ),
    )
)
