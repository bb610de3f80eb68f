"""The worlds keep their promises: disjoint splits, honest verdicts, an expert for every state, nothing leaks or raises."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.agent.episodes import FROZEN_START, run_tasks
from benchmark.agent.policies import POLICIES, Expert, policy_named
from benchmark.runs.replay import replay
from benchmark.worlds.api.world import ApiWorld
from benchmark.worlds.family import Family, families_to_tasks
from benchmark.worlds.files.world import FILES, FilesWorld
from benchmark.worlds.kinds import WORLDS, faults_to_markdown, make_tasks
from benchmark.worlds.pools import filler
from benchmark.worlds.sandbox.sandbox import check_isolation
from benchmark.worlds.world import Fault, Move, Split, Task, ToolResult, World
from core.errors import UserError
from data.contribution.quality import Replay
from data.records import Action, Metadata, Outcome, Trajectory
from data.trajectories import actions_to_messages, output_to_text

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ROOT / ".cache" / "smollm2-135m" / "tokenizer.json"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPLITS: tuple[Split, ...] = ("train", "test")
BOTH = [(world, split) for world in WORLDS for split in SPLITS]
try:
    check_isolation()
    NOT_HERE: dict[str, str] = {}
except UserError as error:
    NOT_HERE = {"code": str(error)}
"""Worlds that this machine cannot open, and why. Their tasks are tested all the same."""
OPENED = [pair for pair in BOTH if pair[0] not in NOT_HERE]
SHORT = ("files", "api")
"""Worlds that have short tasks, whose prompts the quickstart's model can read."""
KINDS = {name: {each.kind for each in kind.troubles.kinds} for name, kind in WORLDS.items()}
"""Every kind of fault of each world."""


SUFFIXES = {"txt", "csv", "json", "toml", "xml", "zip", "sh", "png", "gif", "bmp", "wav", "py"}


def as_action(command: str, arguments: dict[str, Any], result: ToolResult) -> Action:
    return Action(
        command=command, input=arguments, output=result.output, error=result.error, start_time=NOW, end_time=NOW
    )


def let_expert_work(world: World, history: list[Action], most: int = 40) -> Move:
    """Add the expert's calls to the history until it answers."""
    for _ in range(most):
        move = world.expert(history)
        if move.command is None:
            world.answer(move.answer or "")
            return move
        history.append(as_action(move.command, move.input, world.call(move.command, move.input)))
    raise AssertionError(f"the expert does not come to an end: {history}")


def text_of(action: Action) -> str:
    return action.error if action.error is not None else output_to_text(action.output)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    else:
        yield value


def with_fault(task: Task, *faults: Fault) -> Task:
    return replace(task, faults=faults)


def task_of(world: str, family: str, number: int = 0, split: Split = "train") -> Task:
    """A task of a family, without faults."""
    found = [task for task in WORLDS[world].tasks(split, 40 * (number + 1), 11) if task.family == family]
    return with_fault(found[number])


# Tasks.


@settings(max_examples=15, deadline=None, derandomize=True)
@given(world=st.sampled_from(sorted(WORLDS)), train_seed=st.integers(0, 10**6), test_seed=st.integers(0, 10**6))
def test_train_and_test_share_no_parameter(world: str, train_seed: int, test_seed: int) -> None:
    values: dict[str, set[Any]] = {}
    words: dict[str, set[str]] = {}
    for split, seed in (("train", train_seed), ("test", test_seed)):
        drawn = {leaf for task in WORLDS[world].tasks(split, 400, seed) for leaf in leaves(task.parameters)}  # type: ignore[arg-type]
        values[split] = {str(value) for value in drawn}
        # Finer than asked: not even the parts of a path or a sentence are shared, but for the suffixes of files.
        words[split] = {word for value in values[split] for word in re.findall(r"\w+", value)} - SUFFIXES
    assert len(words["train"]) > 100 and len(words["test"]) > 50
    assert not values["train"] & values["test"]
    assert not words["train"] & words["test"]


def test_what_fills_a_context_is_shared_no_more() -> None:
    words = {split: set(re.findall(r"\w+", filler("x", split, 20000))) - {"store"} for split in SPLITS}
    counted = {str(number) for number in range(1, 20000 // 11 + 1)}  # lines are counted in both
    numbers = {split: {word for word in words[split] if word.isdigit()} - counted for split in SPLITS}
    assert len(numbers["train"]) > 100 and not numbers["train"] & numbers["test"]
    assert not {word for word in words["train"] & words["test"] if not word.isdigit()}


@pytest.mark.parametrize(("world", "split"), BOTH)
def test_tasks_are_distinct_even_and_the_same_each_time(world: str, split: Split) -> None:
    tasks = WORLDS[world].tasks(split, 804, 5)
    assert tasks == WORLDS[world].tasks(split, 804, 5)
    assert tasks[:40] == WORLDS[world].tasks(split, 40, 5)
    assert tasks[0].id == f"{world}-{split}-5-0000" and len({task.id for task in tasks}) == 804
    assert len({task.family + json.dumps(task.parameters, sort_keys=True) for task in tasks}) == 804
    per_family = Counter(task.family for task in tasks)
    assert len(per_family) >= 12 + 3 * (split == "test")
    assert max(per_family.values()) - min(per_family.values()) <= 1
    korean = sum(task.language == "ko" for task in tasks) / 804
    assert 0.27 < sum(bool(task.faults) for task in tasks) / 804 < 0.40
    drawn = {fault.kind for task in tasks for fault in task.faults}
    families = WORLDS[world].families
    assert len(drawn) >= 8 and drawn <= {fault.kind for family in families for fault in family.faults} == KINDS[world]
    assert all(bool(re.search("[가-힣]", task.instruction)) == (task.language == "ko") for task in tasks)
    assert tasks[0].parameters != WORLDS[world].tasks(split, 1, 6)[0].parameters
    assert min(task.tier for task in tasks) <= 1 and max(task.tier for task in tasks) >= 12 and 0.4 < korean < 0.6
    assert min(task.context_tokens for task in tasks if task.context_tokens) <= 512
    assert max(task.context_tokens for task in tasks) >= 32768
    assert len({(task.family, tuple(tool.function.name for tool in task.tools)) for task in tasks}) == len(per_family)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("world", SHORT)
def test_short_tasks_have_few_calls_and_ids_of_their_own(world: str, split: Split) -> None:
    tasks = WORLDS[world].tasks(split, 400, 5, short=True)
    assert tasks[:40] == WORLDS[world].tasks(split, 40, 5, short=True)
    assert [task.id for task in tasks[:2]] == [f"{world}-short-{split}-5-0000", f"{world}-short-{split}-5-0001"]
    assert {task.tier for task in tasks} == {1, 2, 3} and not any(task.context_tokens for task in tasks)
    assert len({task.family for task in tasks}) >= 5
    assert 0.09 < sum(task.language == "ko" for task in tasks) / 400 < 0.17
    assert 0.27 < sum(bool(task.faults) for task in tasks) / 400 < 0.40
    assert all(3 <= len(task.tools) <= 4 and len(task.instruction.split()) < 45 for task in tasks)


def test_a_drawn_task_is_not_drawn_again() -> None:
    tiny = Family(
        name="tiny",
        tier=1,
        tools=(),
        draw=lambda draw: {"digit": draw.random.randrange(5)},
        english=("{digit}",),
        facts=(),
        faults=(Fault("busy", "x", 0),),
        korean="{digit}",
    )
    tasks = families_to_tasks([tiny], {}, world="files", split="train", count=5, seed=0)
    assert sorted(task.instruction for task in tasks) == list("01234")
    with pytest.raises(RuntimeError, match="too small"):
        families_to_tasks([tiny], {}, world="files", split="train", count=6, seed=0)


def test_tasks_do_not_depend_on_hash_seeds() -> None:
    script = "from benchmark.worlds.kinds import WORLDS, make_tasks; print(make_tasks(sorted(WORLDS), 'train', 90, 3))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_worlds_take_turns() -> None:
    tasks = make_tasks(["files", "api"], "test", 7, 1)
    assert [task.world for task in tasks] == ["files", "api", "files", "api", "files", "api", "files"]
    assert make_tasks(["api"], "test", 3, 1) == WORLDS["api"].tasks("test", 3, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((["flies"], "test", 3, 1), "Did you mean 'files'?"),
        (([], "test", 3, 1), "one or more"),
        ((["api", "api"], "test", 3, 1), "different"),
        ((["api"], "tests", 3, 1), "Did you mean 'test'?"),
        ((["api"], "test", 0, 1), "count: 0"),
        ((["files", "web"], "test", 4, 1, True), "'web' has no short tasks"),
    ],
)
def test_wrong_orders_are_the_users_to_fix(arguments: Any, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        make_tasks(*arguments[:4], short=len(arguments) > 4)


def test_worlds_import_neither_torch_nor_transformers() -> None:
    script = (
        "import sys; import benchmark.worlds.kinds; "
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


# The expert.


@pytest.mark.parametrize(("world", "split"), BOTH)
def test_expert_solves_every_task_by_what_can_be_known(world: str, split: Split) -> None:
    if world in NOT_HERE:
        pytest.skip(NOT_HERE[world])
    struck: set[str] = set()
    for task in WORLDS[world].tasks(split, 54 if world == "code" else 160, 2):  # code takes real runs
        with WORLDS[world].open(task) as live:
            before = live.verdict()
            assert (before.score, before.outcome) == (0, Outcome.FAILURE), task
            history: list[Action] = []
            seen = task.instruction + str(task.tools)
            while (move := live.expert(history)).command is not None:
                for name, value in move.input.items():
                    # Code is written; everything else, also what an edit replaces, must have been seen.
                    is_written = world == "code" and name in ("text", "new", "code")
                    # Paths, patterns and lists of several values are put together in files, queries in api.
                    parts = re.findall(r"\w+", str(value)) if world in ("files", "api") else [str(value)]
                    assert is_written or all(part in seen for part in parts), f"{task.id}: nobody could know {value!r}"
                result = live.call(move.command, move.input)
                history.append(as_action(move.command, move.input, result))
                seen += "\n" + text_of(history[-1])
                assert (result.error is None) == (result.injected is None), f"{task.id}: {result}"
                struck |= {result.injected} - {None}  # type: ignore[arg-type]
            live.answer(move.answer or "")
            assert move.answer == "Done." or not task.tier
            assert live.verdict().outcome is Outcome.SUCCESS, task
            errors = sum(action.error is not None for action in history)
            assert errors == len(task.faults)
            if not task.faults:
                assert len(history) == task.tier
            for name, value in task.facts.items():
                where = [task.instruction, *(text_of(action) for action in history)]
                read = next(i for i, text in enumerate(where) if value in text)
                used = [str(leaf) for action in history[read:] for leaf in leaves(action.input)]
                assert value in used or (world in ("code", "api") and any(value in each for each in used)), name
    assert struck <= KINDS[world]


def run_of(task: Task) -> Trajectory:
    """The expert's run, with several calls in a turn where that can be."""
    [record] = run_tasks(Expert(), [task], label="x", max_steps=40, start=FROZEN_START)
    return record


@lru_cache
def drawn(world: str, family: str) -> list[Task]:
    """Tasks of a family, with little in between where there is much to read."""
    kind = WORLDS[world]
    [found] = [each for each in kind.families if each.name == family]
    short = replace(found, context_tokens=(512,) if found.context_tokens else ())
    return families_to_tasks([short], kind.tools, world=world, split="test", count=12, seed=3)


EVERY = [
    (world, family.name)
    for world, kind in WORLDS.items()
    for family in kind.families
    if world not in NOT_HERE and family.faults
]


@pytest.mark.parametrize(("world", "family"), EVERY)
def test_every_family_is_solved_with_every_fault(world: str, family: str) -> None:
    """In both languages, with the calls side by side that can be; the same record every time."""
    for place, language in enumerate(("en", "ko")):
        task = next(task for task in drawn(world, family) if task.language == language)
        [of] = [each for each in WORLDS[world].families if each.name == family]
        faults = of.faults if world != "code" or not place else ()  # code takes real runs
        for fault in (None, *faults):
            struck = with_fault(task, *([fault] if fault else []))
            record = run_of(struck)
            assert record.outcome is Outcome.SUCCESS, (struck, record.action_sequence)
            injected = [kind for _, kind in record.metadata.model_extra["injected"]]  # type: ignore[index]
            assert injected == ([fault.kind] if fault else [])
            errors = [action.error for action in record.action_sequence if action.error is not None]
            assert bool(errors) == bool(fault) and (fault or len(record.action_sequence) == task.tier)
            if fault:
                met = WORLDS[world].troubles.recognise(str(errors[0]))
                assert met and met[0].error == WORLDS[world].troubles[fault.kind].error
        assert run_of(struck).to_json() == record.to_json()  # the last of them


@pytest.mark.parametrize(("world", "split"), OPENED)
def test_what_is_recorded_replays(world: str, split: Split) -> None:
    tasks = WORLDS[world].tasks(split, 20 if world == "code" else 60, 4)
    for record in run_tasks(Expert(mistakes=0.5), tasks, label="x", start=FROZEN_START):
        again = replay(record)
        assert isinstance(again, Replay) and again.ok, again


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_every_kind_of_fault_may_strike_and_its_repair_is_offered(world: str) -> None:
    kind = WORLDS[world]
    assert len({each.kind for each in kind.troubles.kinds}) == len(kind.troubles.kinds) >= 8
    assert {fault.kind for family in kind.families for fault in family.faults} == KINDS[world]
    for family in kind.families:
        assert {fault.tool for fault in family.faults} <= set(family.tools), family.name
        for fault in family.faults:
            assert kind.troubles[fault.kind].repair.tool in (None, *family.tools), (family.name, fault)


@pytest.mark.parametrize(("world", "family"), [pair for pair in EVERY if pair[0] != "code"])
def test_a_fault_of_the_second_call_is_overcome_too(world: str, family: str) -> None:
    """Also such as `tasks()` leaves out to keep prompts short."""
    task = next(iter(drawn(world, family)))
    more = {"elsewhere": "attic", "junk": "x", "wait_s": 30}
    [of] = [each for each in WORLDS[world].families if each.name == family]
    for fault in of.faults[:3]:
        struck = replace(task, parameters={**more, **task.parameters}, faults=(replace(fault, nth=1),))
        with WORLDS[world].open(struck) as live:
            history: list[Action] = []
            let_expert_work(live, history)
            assert live.verdict().outcome is Outcome.SUCCESS
            assert sum(action.error is not None for action in history) <= 1


def wrong_calls(live: World, task: Task, rng: random.Random, count: int) -> list[Action]:
    """Calls of the task's tools with values from its own instruction and outputs: plausible, and mostly wrong."""
    history: list[Action] = []
    for _ in range(count):
        words = re.findall(r"[\w./-]+", "\n".join([task.instruction, *(text_of(action) for action in history)]))
        spec = rng.choice(task.tools).function
        properties: Any = spec.parameters["properties"]
        arguments: dict[str, Any] = {
            name: rng.choice(words) if kind["type"] == "string" else rng.randint(0, 30)
            for name, kind in properties.items()
            if rng.random() < 0.95
        }
        history.append(as_action(spec.name, arguments, live.call(spec.name, arguments)))
    return history


@settings(max_examples=600, deadline=None, derandomize=True)
@given(pair=st.sampled_from(OPENED), index=st.integers(0, 39), seed=st.integers(0, 10**6), count=st.integers(1, 8))
def test_expert_goes_on_from_any_state(pair: tuple[str, Split], index: int, seed: int, count: int) -> None:
    world, split = pair
    task = WORLDS[world].tasks(split, 40, 4)[index]
    with WORLDS[world].open(task) as live:
        history = wrong_calls(live, task, random.Random(seed), count)
        # No tool brings back what was overwritten or deleted, so damage of that kind may be beyond repair.
        damage = bool(re.search("is changed|is missing|is too many|has other permissions", live.verdict().why))
        if isinstance(live, FilesWorld):
            tree = live.tree()
            damage = damage or any(tree.get(path) != content for path, content in live.before.items())
        answer = let_expert_work(live, history)
        after = live.verdict()
        assert (answer.answer == "Done.") == (after.outcome is Outcome.SUCCESS) or not task.tier
        assert damage or after.outcome is Outcome.SUCCESS, (task, history, after)


# Verdicts.


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_parts_of_a_task_are_partial_and_damage_is_no_success(world: str) -> None:
    if world in NOT_HERE:
        pytest.skip(NOT_HERE[world])
    partial = damaged = 0
    for task in WORLDS[world].tasks("test", 30 if world == "code" else 60, 6):
        with WORLDS[world].open(task) as live:
            history: list[Action] = []
            while (move := live.expert(history)).command is not None:
                verdict = live.verdict()
                assert 0 <= verdict.score <= 1
                assert (verdict.outcome is Outcome.PARTIAL) == (0 < verdict.score < 1)
                partial += verdict.outcome is Outcome.PARTIAL
                history.append(as_action(move.command, move.input, live.call(move.command, move.input)))
            live.answer(move.answer or "")
            assert live.verdict().outcome is Outcome.SUCCESS
            wrong_calls(live, task, random.Random(task.id), 10)
            if re.search("is changed|is too many", live.verdict().why):
                damaged += 1
                assert live.verdict().outcome is not Outcome.SUCCESS and live.verdict().score < 1
    # A site is not harmed by chance; tests/test_web.py does it on purpose.
    assert partial and (damaged or world == "web")


@pytest.mark.parametrize("world", sorted(WORLDS.keys() - NOT_HERE.keys()))
@pytest.mark.parametrize("name", [name for name in POLICIES if name != "expert"])
def test_trivial_policies_win_nothing(name: str, world: str) -> None:
    tasks = WORLDS[world].tasks("test", 60, 2)
    records = run_tasks(policy_named(name), tasks, label=name, max_steps=4)
    won = [task for task, record in zip(tasks, records, strict=True) if record.outcome is Outcome.SUCCESS]
    # Where no tool fits, to say so is the task; see tests/test_other_world.py.
    assert not won or (name == "say-no-tool" and all(task.tier == 0 for task in won))


# Calls.


@pytest.mark.parametrize("task", [task_of("files", "copy"), task_of("api", "create")], ids=lambda task: task.world)
def test_wrong_calls_are_told_not_raised(task: Task) -> None:
    spec = task.tools[0].function
    properties: Any = spec.parameters["properties"]
    name, argument = spec.name, next(iter(properties))
    whole = dict.fromkeys(properties, "x")
    with WORLDS[task.world].open(task) as live:
        before = live.verdict()

        def error(call: str, arguments: Any) -> str:
            result = live.call(call, arguments)
            assert result.error is not None and result.output is None and result.injected is None
            return result.error

        assert f"Did you mean {name!r}?" in error(name[:-1], whole)
        assert name in error("qqqq", whole)
        assert "'__exit__'" in error("__exit__", {}) and "'call'" in error("call", {})
        assert f"Did you mean {argument!r}?" in error(name, {argument + "s": "x"})
        assert f"argument {argument!r} is missing" in error(name, {})
        for wrong in (7, None, ["x"], True):
            assert f"argument {argument!r} must be string" in error(name, {**whole, argument: wrong})
        for value in ("\0", "\ud800"):
            assert "not allowed" in error(name, {**whole, argument: value})
        assert "JSON object" in error(name, "x") and "JSON object" in error(name, None)
        for value in ("", ".", "é", "토큰", "x" * 5000, "a/b/c", "\r\n", "%2e%2e"):
            for tool in task.tools:
                keys: Any = tool.function.parameters["properties"]
                if tool.function.name not in ("write_file", "wait", "list_folder"):
                    assert error(tool.function.name, dict.fromkeys(keys, value))
        assert live.verdict() == before


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    world=st.sampled_from(sorted(WORLDS.keys() - NOT_HERE.keys())),
    index=st.integers(0, 7),
    calls=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.dictionaries(
                st.sampled_from(["path", "text", "source", "target", "token", "id", "city", "cursor", "seconds", "x"]),
                st.one_of(st.text(max_size=20), st.integers(), st.none(), st.sampled_from(["a.csv", "a.json", "a/b"])),
                max_size=4,
            ),
        ),
        max_size=6,
    ),
)
def test_no_call_raises(world: str, index: int, calls: Sequence[tuple[int, dict[str, Any]]]) -> None:
    task = WORLDS[world].tasks("train", 8, 1)[index]
    with WORLDS[world].open(task) as live:
        history = []
        for number, arguments in calls:
            name = task.tools[number].function.name
            result = live.call(name, arguments)
            assert result.seconds >= 0
            history.append(as_action(name, arguments, result))
        live.verdict()
        let_expert_work(live, history)


def test_faults_count_only_calls_that_were_right() -> None:
    task = with_fault(task_of("files", "copy"), Fault("malformed", "read_file", 0))
    p: Any = task.parameters
    with FILES.open(task) as live:
        assert live.call("read_file", {"path": "nowhere.txt"}).injected is None
        assert live.call("read_file", {"path": p["source"]}).injected == "malformed"
        assert live.call("read_file", {"path": p["source"]}).output == p["text"]


def test_worlds_repeat_byte_for_byte_and_show_no_temporary_path() -> None:
    for task in make_tasks(["files", "api"], "train", 80, 9):
        runs = []
        for _ in range(2):
            with WORLDS[task.world].open(task) as live:
                history = wrong_calls(live, task, random.Random(task.id), 4)
                let_expert_work(live, history)
                folder = str(live.root) if isinstance(live, FilesWorld) else "api.local"
                assert isinstance(live, FilesWorld | ApiWorld)
            runs.append("\n".join(action.model_dump_json() for action in history))
            assert folder not in runs[-1]
        assert runs[0] == runs[1]


# A kind of fault is declared in one place.


def test_the_documentation_holds_every_kind_of_fault() -> None:
    """`python -m benchmark.worlds.kinds` writes it."""
    assert faults_to_markdown() in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


NEW = {
    "files": (
        """Trouble("scanned", "a scanner holds {path} for {seconds} s", By("wait", {"seconds": "{seconds}"}), ("writing",),
            happens=lambda world, called: {"path": _path(called), "lasts_s": 40},
            refuses=lambda world, tool, given, values: _names(given, values["path"]))""",
        "wait",
    ),
    "other": (
        """Trouble("asleep", "{name} has fallen asleep, sign in to wake it", By("sign_in"), ("saving",),
            happens=lambda world, called: {"name": called.given["name"]},
            refuses=lambda world, tool, given, values: tool == "save_note")""",
        "sign_in",
    ),
    "code": (
        """Trouble("indexing", "{path} is indexed, read it once more", By("read_file", {"path": "{path}"}), ("editing",),
            happens=lambda world, called: {"path": _path(world, called)}, refuses=_is_written)""",
        "read_file",
    ),
    "api": (
        """Trouble("overloaded", "529 too much to do, come back in {seconds} s", _WAIT, ("keyed",),
            happens=lambda shop, served: {"lasts_s": 50},
            refuses=lambda shop, tool, given, values: tool.startswith(("charge", "refund", "send")))""",
        "wait",
    ),
    "web": (
        """Trouble("gateway", "502 nothing behind the gateway answers", occasions=("opening",))""",
        "",
    ),
}
"""World -> a kind of fault that it does not have, and the tool that repairs it."""
TRY = """
import sys
from benchmark.agent.episodes import run_tasks
from benchmark.agent.policies import Expert
from benchmark.worlds.kinds import WORLDS, faults_to_markdown
world, kind = sys.argv[1:]
drawn = [task for task in WORLDS[world].tasks("train", 400, 1) if kind in [fault.kind for fault in task.faults]]
for record in run_tasks(Expert(), drawn[:6], label="x", max_steps=40):
    [error] = {action.error for action in record.action_sequence} - {None}
    print(record.outcome, record.metadata.model_extra["injected"][0][1], [a.command for a in record.action_sequence], error)
print([line for line in faults_to_markdown().splitlines() if kind in line])
"""


@pytest.mark.parametrize("world", sorted(NEW.keys() - NOT_HERE.keys()))
def test_a_new_kind_of_fault_takes_one_declaration(world: str, tmp_path: Path) -> None:
    """It is drawn, injected, recognised, repaired and documented."""
    for folder in ("benchmark", "core", "data"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    declared, repair = NEW[world]
    file = tmp_path / "benchmark" / "worlds" / world / "troubles.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace("= Troubles(\n    (\n", f"= Troubles(\n    (\n        {declared},\n"), encoding="utf-8"
    )
    kind = declared.split('"')[1]
    command = [sys.executable, "-c", TRY, world, kind]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    *records, documented = run.stdout.splitlines() or [run.stderr]
    assert records and all(f"success {kind} " in line for line in records), run.stderr
    assert all(repair in line for line in records) and f"| {world} | `{kind}` | " in documented


# Size: the quickstart's model reads every token on a CPU.


def longest_prompts(count: int) -> dict[str, str]:
    """For each family the longest prompt at the end of an expert's run, as the ChatML template with tools writes it."""
    from jinja2 import Environment  # noqa: PLC0415 - only this test renders

    environment = Environment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((ROOT / "configs" / "chat_templates" / "chatml_tools.jinja").read_text())
    longest: dict[str, str] = {}
    for split in SPLITS:
        for task in make_tasks(SHORT, split, count, 8, short=True):
            history: list[Action] = []
            with WORLDS[task.world].open(task) as live:
                let_expert_work(live, history)
            assert all(len(text_of(action)) < 200 for action in history)
            messages = actions_to_messages(Metadata(instruction=task.instruction, tools=list(task.tools)), history)
            prompt = template.render(
                messages=[message.to_template() for message in messages],
                tools=[tool.model_dump() for tool in task.tools],
                add_generation_prompt=True,
            )
            key = f"{task.world}/{task.family}/{task.language}"
            longest[key] = max(longest.get(key, ""), prompt, key=len)
    return longest


def test_prompts_stay_short() -> None:
    prompts = longest_prompts(320)
    # 450 tokens of the embedded model; about 3.6 characters of English each, the Korean ones are shorter.
    assert {key: len(text) for key, text in prompts.items() if len(text) > 1620} == {}
    if TOKENIZER.exists():
        from tokenizers import Tokenizer  # noqa: PLC0415 - not every run has the model

        encode = Tokenizer.from_file(str(TOKENIZER)).encode
        assert {key: len(encode(text).ids) for key, text in prompts.items() if len(encode(text).ids) >= 450} == {}


def test_worlds_open_quickly() -> None:
    started = datetime.now(UTC)
    tasks = make_tasks(["files", "api"], "train", 200, 1)
    for task in tasks:
        with WORLDS[task.world].open(task) as live:
            let_expert_work(live, [])
    # Thousands of tasks a minute; they take a few milliseconds each on an idle core.
    assert (datetime.now(UTC) - started).total_seconds() < 12
