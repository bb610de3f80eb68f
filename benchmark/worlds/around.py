"""What stands around a world where its task has more than the world itself: a user, an instruction in a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmark.worlds.asking.world import AskingWorld
from benchmark.worlds.injection import INJECTED, InjectedWorld
from benchmark.worlds.world import Task, World


def own_part(task: Task) -> Task:
    """The task as the world itself sees it: without what stands around it."""
    return replace(task, faults=tuple(fault for fault in task.faults if fault.kind != INJECTED))


def with_surroundings(world: World, task: Task, state: Callable[[], object] | None = None) -> World:
    """The world of a task's own part with the task's user and its injected instruction around it.

    Args:
        state: gives the world's state as something to compare, see `AskingWorld`.
    """
    if task.user is not None:
        world = AskingWorld(world, task, state)
    if any(fault.kind == INJECTED for fault in task.faults):
        world = InjectedWorld(world, task)
    return world
