"""`python -m benchmark headroom`: what preferences of each kind could gain at most, before any pair is made.

A model tries tasks as it is, then with the expert in its place at one kind of turn only, then several times with sampling. Each
of these is a run like any other, in a folder of its own: what was stopped goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmark.agent.episodes import Invalid
from benchmark.agent.interventions import RULES
from benchmark.agent.policies import POLICIES
from benchmark.agent.transformers_model import Dtype
from benchmark.kpis import bootstrap_mean, compare_success, in_order, kpis, task_of, wilson
from benchmark.runs.actors import API_KEY_ENV, Actor, Options, make_actors, read_api_key
from benchmark.runs.options import (
    ALL_WORLDS,
    Asking,
    Chosen,
    Count,
    Injections,
    Seed,
    Short,
    Skip,
    SplitName,
    Trust,
    Worlds,
    choose_worlds,
    draw_tasks,
    require_expert,
)
from benchmark.runs.results import RECORDS
from benchmark.runs.run import run_actor, tasks_to_tries
from benchmark.runs.shown import kpi_to_text, points
from benchmark.worlds.world import Task
from core.command_line import words_called
from core.errors import UserError
from core.files import write_json
from core.screen import print_table
from data.records import Outcome, Trajectory, read_trajectories
from data.wire import Kpi

GREEDY, SAMPLED = "greedy", "sampled"
RESULT = "headroom.json"
CEILINGS = {"repeat": "stuck", "end": "stop", "divergence": "advice"}
"""The pairs whose ceiling a rule tells."""

Found = dict[str, list[Trajectory]]
"""Records of one model, by greedy, the rules and sampled."""


def headroom_command(
    out: Annotated[Path, typer.Option(help="Folder of the results; one subfolder for each label.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model or adapter folder, or hub id; with --server a name it serves. May be repeated."),
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help=f"A policy without a model: {', '.join(POLICIES)}.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Name of each model, in order; default: the last part.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server.")] = None,
    split: Annotated[SplitName, typer.Option(help="Whose tasks; test tasks are kept for what is decided last.")] = (
        SplitName.train
    ),
    count: Count = None,
    seed: Seed = 307,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
    asking: Asking = False,
    injections: Injections = False,
    skip: Skip = 0,
    trust: Trust = False,
    samples: Annotated[int, typer.Option(min=2, help="Tries of each task with sampling.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the tries with sampling.")] = 0.8,
    sampling_seed: Annotated[int, typer.Option(min=0, help="What the seeds of all tries are made from.")] = 0,
    max_steps: Annotated[int, typer.Option(min=1, help="Turns after which a task ends as it is.")] = 12,
    max_same_errors: Annotated[
        int | None,
        typer.Option(min=1, help="A task also ends when one call has failed so many times with the same error."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Tasks that generate together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest turn of a model.")] = 128,
    window: Annotated[int | None, typer.Option(min=1, help="Most tokens of prompt and answer.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="With --model; auto is bfloat16 on a GPU, else float32.")] = "auto",
    invalid: Annotated[
        Invalid, typer.Option(help="An unreadable turn: retry gives it back as an error, stop ends the task.")
    ] = "retry",
) -> None:
    r"""Measure what a model could gain: with the expert in its place at one kind of turn, and with the best of several tries.

    The expert steps in only (repeat) at the second identical failed call, (end) instead of a final answer while goals are
    open, (divergence) once, at the first turn that is not its own. The three success rates are the ceilings of stuck, stop
    and advice pairs. Beside them: greedy, the mean of several tries (avg@8), the share of tasks solved at least once
    (pass@8) and of those solved in some tries only (0 < p < 1), by tier and world. What was stopped goes on.

    Example: python -m benchmark headroom --model runs/quickstart/round-1/sft --label sft --worlds files,api --short \
        --count 64 --out runs/headroom
    """
    called = words_called(headroom_command, locals())
    if server is not None and dtype != "auto":
        raise UserError("--dtype goes with --model; a server computes in what it was started with")
    actors = make_actors(
        model,
        policy,
        label,
        suffix="",
        server=server,
        tokenizer=None,
        chat_template_path=None,
        api_key=None if server is None else read_api_key(API_KEY_ENV),
        timeout_seconds=300.0,
    )
    chosen = choose_worlds(worlds, trust=trust)
    tasks = draw_tasks(
        chosen, split, count, seed, short=short, asking=asking, injections=injections, part="practice", skip=skip
    )
    require_expert(chosen, tasks, "headroom")
    options = Options(
        max_steps=max_steps,
        max_same_errors=max_same_errors,
        invalid=invalid,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        sampling_seed=sampling_seed,
        window=window,
        dtype=dtype,
    )
    drawn = {
        "command": called,
        "split": split.value,
        "count": len(tasks),
        "seed": seed,
        "worlds": worlds,
        "short": short,
        "asking": asking,
        "injections": injections,
        "examples": None,
        "identity": chosen.identity,
    }
    for actor in actors:
        folder = out / actor.label
        found = _carry_out(actor, tasks, options, folder, drawn, chosen, samples=samples, temperature=temperature)
        told = found_to_json(found)
        write_json(folder / RESULT, told)
        _print(actor.label, told, samples)
        print(f"wrote {folder / RESULT}")


def _carry_out(
    actor: Actor,
    tasks: Sequence[Task],
    options: Options,
    folder: Path,
    drawn: dict[str, Any],
    chosen: Chosen,
    *,
    samples: int,
    temperature: float,
) -> Found:
    """All runs of a model; those that are finished are reused."""
    ways: dict[str, Options] = {GREEDY: options}
    ways |= {rule: replace(options, intervene=rule) for rule in RULES}
    ways[SAMPLED] = replace(options, temperature=temperature)
    found: Found = {}
    for name, way in ways.items():
        many = samples if way.temperature else 1
        tries = tasks_to_tries(tasks, samples=many, temperature=way.temperature, sampling_seed=options.sampling_seed)
        run_actor(actor, tries, way, folder / name, told={**drawn, "samples": many}, chosen=chosen)
        found[name] = list(read_trajectories(folder / name / RECORDS))
    return found


# ---- the numbers ----


class Spread(NamedTuple):
    """What several tries of each task tell."""

    average: Kpi
    """Share of tries that succeed, as a mean over tasks."""
    at_least_once: Kpi
    """Share of tasks that are solved in some try."""
    mixed: Kpi
    """Share of tasks that are solved in some tries and not in others: what tries can be compared with each other on."""


def records_to_spread(records: Iterable[Trajectory]) -> Spread:
    """Of several tries of each task."""
    tries: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        tries[str(task_of(record).get("id"))].append(record.outcome is Outcome.SUCCESS)
    return Spread(
        bootstrap_mean([[sum(each) / len(each)] for each in tries.values()]),
        wilson(sum(any(each) for each in tries.values()), len(tries)),
        wilson(sum(any(each) and not all(each) for each in tries.values()), len(tries)),
    )


def found_to_json(found: Found) -> dict[str, Any]:
    """All numbers of one model, over all tasks, by tier and by world."""
    groups: dict[str, Mapping[str, Found]] = {"all": {"all": found}}
    for key in ("tier", "world"):
        groups[key] = _by(found, key)
    return {
        key: {name: _numbers(group) for name, group in sorted(of_key.items(), key=lambda item: in_order(item[0]))}
        for key, of_key in groups.items()
    }


def _by(found: Found, key: str) -> dict[str, Found]:
    groups: dict[str, Found] = defaultdict(lambda: {name: [] for name in found})
    for name, records in found.items():
        for record in records:
            groups[str(task_of(record).get(key))][name].append(record)
    return groups


def _numbers(found: Found) -> dict[str, Any]:
    spread = records_to_spread(found[SAMPLED])
    numbers: dict[str, Any] = {
        "tasks": len(found[GREEDY]),
        GREEDY: asdict(_success(found[GREEDY])),
        "average": asdict(spread.average),
        "at_least_once": asdict(spread.at_least_once),
        "mixed": asdict(spread.mixed),
    }
    for rule in RULES:
        steps = Counter(
            record.id for record in found[rule] for _ in (record.metadata.model_extra or {}).get("interventions", [])
        )
        numbers[rule] = {
            "success": asdict(_success(found[rule])),
            "gain": asdict(compare_success(found[GREEDY], found[rule])),
            "tasks_with_interventions": len(steps),
            "interventions": steps.total(),
        }
    return numbers


def _success(records: Sequence[Trajectory]) -> Kpi:
    return kpis(records)["success_rate"]


# ---- shown ----


def _print(label: str, told: dict[str, Any], samples: int) -> None:
    whole = told["all"]["all"]
    rows: list[tuple[object, ...]] = [(GREEDY, _text(whole[GREEDY]), "", "")]
    for rule in RULES:
        each = whole[rule]
        gain = each["gain"]
        gained = "-" if gain["value"] is None else f"{points(gain['value'])}{_interval(gain)}"
        stepped = f"{each['interventions']} in {each['tasks_with_interventions']} tasks"
        rows.append((f"ceiling of {CEILINGS[rule]} pairs ({rule})", _text(each["success"]), gained, stepped))
    print_table(("", "success", "to greedy, points", "turns by the expert"), rows, title=f"\n{label}")
    heads = ("", "tasks", GREEDY, *RULES, f"avg@{samples}", f"pass@{samples}", "0 < p < 1")
    lines = [
        (
            name if key == "world" else f"{key} {name}" if key == "tier" else name,
            numbers["tasks"],
            _text(numbers[GREEDY]),
            *(_text(numbers[rule]["success"]) for rule in RULES),
            *(_text(numbers[part]) for part in ("average", "at_least_once", "mixed")),
        )
        for key, of_key in told.items()
        for name, numbers in of_key.items()
    ]
    print_table(heads, lines, title="\nby tier and world, with 95 % intervals")


def _text(kpi: dict[str, Any]) -> str:
    return kpi_to_text("success_rate", Kpi(**kpi))


def _interval(gain: dict[str, Any]) -> str:
    return "" if gain["low"] is None else f" ({points(gain['low'])} to {points(gain['high'])})"
