"""Families of tasks: a way to draw parameters and a sentence that states them; and the kind of world that they belong to."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import JsonValue

from benchmark.worlds.around import own_part, with_surroundings
from benchmark.worlds.asking.tasks import asking_tasks
from benchmark.worlds.injection import injected_tasks
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.tools import function_to_spec
from benchmark.worlds.troubles import Troubles
from benchmark.worlds.world import Fault, Part, Split, Task, World
from core.errors import UserError
from data.records import Category, ToolSpec

_KOREAN_SHARE = 1 / 2
_KOREAN_SHARE_OF_SHORT = 1 / 8
_FAULT_SHARE = 1 / 3

CONTEXT_TOKENS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Sizes of what stands between a fact and its use, for families that have such."""

# The prompts of short tasks stay under 450 tokens to the end. Each call with its result costs about 70 of them, and a Korean
# instruction about as much more than an English one; so this is how many calls fit, those that a fault adds included.
_MAX_CALLS = {"en": 3, "ko": 2}


@dataclass(frozen=True)
class Family:
    """Tasks that are solved in the same way and differ in their parameters.

    `tools` is the same for every task of a family, in a fixed order, so that prompts share their beginning, and so that
    the tools do not tell whether a fault will come. `faults` holds what may strike, one a task.
    """

    name: str
    tier: int
    tools: tuple[str, ...]
    draw: Callable[[Draw], dict[str, JsonValue]]
    english: tuple[str, ...]
    """Ways to say it, as `str.format` patterns over the parameters."""
    facts: tuple[str, ...]
    """Parameters that have to be carried from where they are first read into a later call."""
    faults: tuple[Fault, ...] = ()
    korean: str = ""
    """The same in Korean; empty where it does not fit."""
    phrases: Callable[[Any, Literal["en", "ko"]], dict[str, str]] = lambda parameters, language: {}
    """Further names in the patterns, which are told by the parameters and are none themselves."""
    context_tokens: tuple[int, ...] = ()
    """The sizes in which it comes, where something long stands before the use of a fact. A pattern that holds `{filler}`
    has it in the instruction; else the world puts it into what a tool gives back."""
    held_out: bool = False
    """In the test split only."""
    is_short: bool = False
    """Also among the short tasks: up to three calls, with few tools and short outputs."""

    def is_told_in_korean(self, short: bool) -> bool:
        """Whether a task can be told in Korean; a short one only where the prompt stays short."""
        return bool(self.korean) and (not short or self.tier <= _MAX_CALLS["ko"])

    def possible_faults(
        self, language: Literal["en", "ko"], troubles: Troubles[Any, Any] | None, short: bool
    ) -> Sequence[Fault]:
        """What may strike a task: what its tools can repair, as its world's troubles tell; a short one only what leaves the
        prompt short."""
        if troubles is None:
            return self.faults
        most = _MAX_CALLS[language] if short else math.inf
        return [
            fault
            for fault in self.faults
            if troubles[fault.kind].repair.tool in (None, *self.tools)
            and self.tier + troubles.calls_added(fault.kind) <= most
        ]


def families_to_tasks(
    families: Sequence[Family],
    tools: dict[str, ToolSpec],
    *,
    world: str,
    split: Split,
    count: int,
    seed: int,
    troubles: Troubles[Any, Any] | None = None,
    short: bool = False,
) -> list[Task]:
    """`count` distinct tasks, the families in turn. A longer list starts with the shorter one of the same seed.

    About one task in two is told in Korean, about one in three has a fault. With `short` only the families of short tasks
    are taken, only one task in eight is told in Korean, which costs more tokens, and a fault strikes only where the prompt
    stays short. `troubles` are those of the world; without them every fault of a family may strike.

    Raises:
        UserError: `short`, and none of the families has short tasks.
    """
    families = [family for family in families if split == "test" or not family.held_out]
    if short:
        families = [family for family in families if family.is_short]
        if not families:
            raise UserError(f"worlds: {world!r} has no short tasks, leave out --short or the world")
    korean_share = _KOREAN_SHARE_OF_SHORT if short else _KOREAN_SHARE
    korean_chance = korean_share * len(families) / sum(family.is_told_in_korean(short) for family in families)
    languages: tuple[Literal["en", "ko"], ...] = ("en", "ko")
    faulty = [
        language for family in families for language in languages if family.possible_faults(language, troubles, short)
    ]
    faulty_share = faulty.count("en") * (1 - korean_chance) + faulty.count("ko") * korean_chance
    fault_chance = _FAULT_SHARE * len(families) / faulty_share
    tasks: list[Task] = []
    seen: set[str] = set()
    while len(tasks) < count:
        index = len(tasks)
        family = families[index % len(families)]
        for attempt in range(1000):
            # A string seeds Random the same way on every machine; a tuple would not.
            source = f"{world}-{split}-{seed}-{index}-{attempt}"
            rng = random.Random(source)
            is_korean = family.is_told_in_korean(short) and rng.random() < korean_chance
            language: Literal["en", "ko"] = "ko" if is_korean else "en"
            parameters = family.draw(Draw(source + "-draw", split, language))
            key = family.name + json.dumps(parameters, sort_keys=True)
            if key not in seen:
                break
        else:
            raise RuntimeError(f"the pools are too small for {count} different tasks of family {family.name}")
        seen.add(key)
        pattern = family.korean if language == "ko" else rng.choice(family.english)
        faults = family.possible_faults(language, troubles, short)
        is_struck = bool(faults) and rng.random() < fault_chance
        size = rng.choice(family.context_tokens) if family.context_tokens else 0
        words = {**parameters, **family.phrases(parameters, language)}
        if "{filler}" in pattern:
            words["filler"] = filler(source, split, size)
        tasks.append(
            Task(
                id=f"{world}{'-short' if short else ''}-{split}-{seed}-{index:04d}",
                world=world,
                family=family.name,
                split=split,
                seed=seed,
                tier=family.tier,
                language=language,
                instruction=pattern.format(**words),
                tools=tuple(tools[name] for name in family.tools),
                parameters=parameters,
                facts={name: str(parameters[name]) for name in family.facts},
                faults=(rng.choice(faults),) if is_struck else (),
                context_tokens=size,
            )
        )
    return tasks


MAX_NUMBER = 100_000
"""Highest number of a task that is made again by its id; tasks of a seed are made one after the other."""
_ID = re.compile(
    r"(?P<world>\w+)(?P<draw>-short|-asking-injected|-asking|-injected)?-(?P<split>train|test)-(?P<seed>[0-9]{1,18})-(?P<number>[0-9]{4,9})"
)

AnyFamily = TypeVar("AnyFamily", bound=Family, covariant=True)
AnyWorld = TypeVar("AnyWorld", bound=World, covariant=True)


@dataclass(frozen=True)
class WorldKind(Generic[AnyFamily, AnyWorld]):
    """A kind of world: its families of tasks, and the world that a task of them opens."""

    name: str
    category: Category
    version: str
    """Goes up when the same task gives another world or another record."""
    families: tuple[AnyFamily, ...]
    world: Callable[[Task], AnyWorld]
    """A class whose methods are the tools."""

    @cached_property
    def tools(self) -> dict[str, ToolSpec]:
        """Every tool that some family offers, by name."""
        names = dict.fromkeys(name for family in self.families for name in family.tools)
        return {name: function_to_spec(getattr(self.world, name)) for name in names}

    @property
    def troubles(self) -> Troubles[Any, Any]:
        """Every kind of fault of this world."""
        return self.world.troubles  # type: ignore[attr-defined]  # a class of its own has them

    def tasks(
        self,
        split: Split,
        count: int,
        seed: int,
        *,
        short: bool = False,
        asking: bool = False,
        injections: bool = False,
        part: Part | None = None,
    ) -> list[Task]:
        """`count` distinct tasks over all families, or those that have short tasks; the same for the same arguments."""
        if injections:
            return self.injected_tasks(split, count, seed, asking=asking)
        if asking:
            return self.asking_tasks(split, count, seed)
        return families_to_tasks(
            self.families,
            self.tools,
            world=self.name,
            split=split,
            count=count,
            seed=seed,
            troubles=self.troubles,
            short=short,
        )

    def task(self, task_id: str) -> Task | None:
        """The task of an id, made anew; None where the id names none."""
        which = _ID.fullmatch(task_id)
        if which is None or which["world"] != self.name or int(which["number"]) >= MAX_NUMBER:
            return None
        split: Split = "test" if which["split"] == "test" else "train"
        return _lists(self, split, int(which["seed"]), which["draw"] or "").task(int(which["number"]))

    def asking_tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` different tasks with a user, in which something is to be asked, agreed to or refused, or nothing of it."""
        return asking_tasks(
            self.families, self.tools, self.troubles, world=self.name, split=split, count=count, seed=seed
        )

    def injected_tasks(self, split: Split, count: int, seed: int, *, asking: bool = False) -> list[Task]:
        """`count` different tasks in which one result holds an instruction that nobody has a right to give."""
        return injected_tasks(lambda number: self.tasks(split, number, seed, asking=asking), self.open, count)

    @property
    def source(self) -> str:
        """Records of our worlds are ours."""
        return "tooltune-benchmark"

    @property
    def licence(self) -> str | None:
        """That under which we give them away."""
        return "CC-BY-4.0"

    @property
    def identity(self) -> Mapping[str, str]:
        """Nothing: code and version make a world of ours what it is."""
        return {}

    @property
    def parallel(self) -> int | None:
        """Any number of episodes may be live at once."""
        return None

    def has_expert(self, task: Task) -> bool:
        """Whether somebody knows the way: always."""
        return True

    def family_of(self, task: Task) -> AnyFamily:
        """The family that a task was drawn from."""
        name = task.family.partition("+")[0]  # what is added to it says what has to be asked
        return next(family for family in self.families if family.name == name)

    def open(self, task: Task) -> AnyWorld:
        """The world of a task. Nothing is there before it is entered."""
        # Whoever opens a task that needs more than its world takes what stands around it for what every world is.
        return cast(AnyWorld, with_surroundings(self.world(own_part(task)), task))


class _Lists:
    """Tasks of one seed, made as far as they are needed."""

    def __init__(self, kind: WorldKind[Any, Any], split: Split, seed: int, draw: str) -> None:
        self._split, self._seed = split, seed
        asked: dict[str, Callable[[Split, int, int], list[Task]]] = {
            "-asking": kind.asking_tasks,
            "-injected": kind.injected_tasks,
            "-asking-injected": partial(kind.injected_tasks, asking=True),
            "-short": partial(kind.tasks, short=True),
        }
        self._tasks_of = asked.get(draw, kind.tasks)
        self._tasks: list[Task] = []

    def task(self, number: int) -> Task | None:
        """The task of a number; None where the pools do not give so many different ones."""
        for count in (number + max(number // 2, 100), number + 1):  # further than needed, if that can be
            if number >= len(self._tasks):
                with suppress(RuntimeError, UserError):
                    self._tasks = self._tasks_of(self._split, count, self._seed)
        return self._tasks[number] if number < len(self._tasks) else None


_lists = lru_cache(maxsize=16)(_Lists)
