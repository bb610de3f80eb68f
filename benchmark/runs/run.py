"""`python -m benchmark run`: models on tasks, with everything kept that a stopped run needs to go on.

A finished try is a line of `unfinished-KEY.jsonl` in the label's folder as soon as it ends. KEY names what decides a record
beside its task: the model by the hash of its files, the options, the code and the libraries. So a run that was killed, or is
given more tasks, or finds shards, takes the lines of its own key and tries the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from benchmark.agent.episodes import (
    SERVERS_FAULT,
    Invalid,
    Try,
    run_tasks,
    try_to_record_id,
)
from benchmark.agent.examples import read_examples
from benchmark.agent.interventions import step_in
from benchmark.agent.policies import POLICIES
from benchmark.agent.started_server import StartedServers
from benchmark.agent.transformers_model import Dtype, Model
from benchmark.kpis import kpis, kpis_by, pass_hat_k, success_by_context
from benchmark.runs.actors import API_KEY_ENV, Actor, Options, make_actors, read_api_key
from benchmark.runs.asking_kpis import asking_kpis
from benchmark.runs.done import (
    ALL_CODE,
    ROOT,
    Done,
    find_done,
    has_key,
    is_finished,
    records_in,
    refuse_other_worlds,
    run_key,
    unfinished,
    unfinished_rollouts,
    versions,
)
from benchmark.runs.invalid import end_if_too_many, invalid_to_text
from benchmark.runs.options import (
    ALL_WORLDS,
    OURS,
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
from benchmark.runs.proving import MOST_STATES, ROLLOUTS, prove_records
from benchmark.runs.results import RECORDS, read_run
from benchmark.runs.shown import kpi_table, print_asking
from benchmark.runs.window import within_window
from benchmark.worlds.world import Part, Task
from core.command_line import words_called
from core.errors import UserError
from core.files import appending, claimed_folder, code_sha256, whole_file, whole_result, write_whole
from core.screen import with_progress
from data.models import read_stages, weights_sha256
from data.records import INVALID_CALL, Outcome, Trajectory
from data.rendering.chat_template import read_chat_template
from data.wire import BenchmarkRun, NotApplicable, Replies

if TYPE_CHECKING:
    from benchmark.agent.user_model import UserModel

SOLVED = "solved.jsonl"
"""What `--keep solved` writes."""


def run_benchmark(
    out: Annotated[Path, typer.Option(help="Folder of the results; one subfolder for each label.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model or adapter folder, or hub id; with --server a name it serves. May be repeated."),
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help=f"A policy without a model: {', '.join(POLICIES)}.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Name of each model, in order; default: the last part.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Base URL of an OpenAI-compatible server: vLLM, llama.cpp, transformers serve.")
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(help="Start this server for the models: 'vllm serve {base} --enable-lora --port {port}'."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="With --server: folder of the served model's tokenizer; prompts are rendered here, sent as ids."
        ),
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="With --server: the environment variable that holds the API key, if one is needed.")
    ] = API_KEY_ENV,
    timeout_seconds: Annotated[
        float, typer.Option(min=1, help="With --server: how long one answer may take before it is asked for again.")
    ] = 300.0,
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.test,
    count: Count = None,
    seed: Seed = 1,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
    asking: Asking = False,
    injections: Injections = False,
    skip: Skip = 0,
    trust: Trust = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Try the first so many tasks only; a later run without it goes on there.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n: only every n-th task from the i-th on; the same run without it puts the shards together."
        ),
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="Turns after which a task ends as it is.")] = 12,
    max_same_errors: Annotated[
        int | None,
        typer.Option(min=1, help="A task also ends when one call has failed so many times with the same error."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Tasks that generate together; with --server requests at once.")
    ] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest turn of a model.")] = 128,
    window: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of prompt and answer; default: what model or server says.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="With --model; auto is bfloat16 on a GPU, else float32.")] = "auto",
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    samples: Annotated[int, typer.Option(min=1, help="Tries of each task, for pass^k; needs a temperature.")] = 1,
    sampling_seed: Annotated[int, typer.Option(min=0, help="What the seeds of all tries are made from.")] = 0,
    invalid: Annotated[
        Invalid, typer.Option(help="An unreadable turn: retry gives it back as an error, stop ends the task.")
    ] = "retry",
    chat_template_path: Annotated[
        str | None, typer.Option("--chat_template_path", help="Chat template file instead of the models' own.")
    ] = None,
    advise: Annotated[bool, typer.Option("--advise", help="Store the expert's move at each failed step.")] = False,
    prove: Annotated[
        int | None,
        typer.Option(min=1, help="Find the step at which a failed try lost success, by so many tries from its states."),
    ] = None,
    prove_states: Annotated[
        int, typer.Option(min=1, help="With --prove: at most so many states, those of the first failed tries.")
    ] = MOST_STATES,
    examples: Annotated[
        Path | None, typer.Option(help="Records of training; the nearest successes are shown before each task.")
    ] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="With --examples: how many are shown. [default: 3]")] = None,
    user_server: Annotated[
        str | None,
        typer.Option(help="With --asking and --keep solved: base URL of a server whose --user-model plays the users."),
    ] = None,
    user_model: Annotated[str | None, typer.Option(help="With --user-server: the model's name there.")] = None,
    repeat_guard: Annotated[
        bool, typer.Option("--repeat-guard", help="Tell the model that it has tried a failed call, and do not make it.")
    ] = False,
    keep: Annotated[
        Literal["all", "solved"],
        typer.Option(help="solved: write the records that solve their task to solved.jsonl, too."),
    ] = "all",
) -> dict[str, BenchmarkRun]:
    r"""Run models on tasks: trajectories, KPIs with intervals, and a table.

    A run that was stopped goes on where it was, and a finished one is reused, as long as model and options are unchanged.
    Tasks that a model's window cannot hold are left out and counted as not applicable.

    Example: python -m benchmark run --model .cache/smollm2-135m --label base \
        --model runs/quickstart/round-1/sft --label sft --split test --count 40 --out results
    """
    command = words_called(run_benchmark, locals())
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries' advice to developers
    if server is not None and dtype != "auto":
        raise UserError("--dtype goes with --model; a server computes in what it was started with")
    if serve is not None and (server is not None or not model or dtype != "auto"):
        raise UserError("--serve goes with --model, which it starts a server for, and without --server and --dtype")
    if not math.isfinite(temperature):
        raise UserError(f"--temperature {temperature}: expected 0 or a number above it")
    if samples > 1 and temperature == 0:
        raise UserError(
            f"--samples {samples} with --temperature 0 gives the same {samples} times: give a --temperature"
        )
    if tokenizer is not None and server is None:
        raise UserError("--tokenizer goes with --server; a model of --model has its own")
    if chat_template_path is not None:
        if server is not None and tokenizer is None:
            raise UserError("--chat_template_path: the server has its own template; give --tokenizer to render here")
        read_chat_template(chat_template_path)  # missing? say so before anything is loaded
    if shots is not None and examples is None:
        raise UserError(f"--shots {shots} goes with --examples, the file that they are taken from")
    if examples is not None and policy:
        raise UserError(f"--examples goes with --model or --server; --policy {policy[0]} reads no prompt")
    shots = 0 if examples is None else shots or 3
    shown = None if examples is None else read_examples(examples, shots=shots)
    _check_user_model(user_server, user_model, asking=asking, keep=keep, prove=prove)
    servers = None if serve is None else StartedServers(serve, out / "server.log")
    actors = make_actors(
        model,
        policy,
        label,
        suffix=f"-{shots}-shot" if shots else "",
        server=server,
        servers=servers,
        tokenizer=tokenizer,
        chat_template_path=chat_template_path,
        api_key=None if server is None else read_api_key(api_key_env),
        timeout_seconds=timeout_seconds,
    )
    options = Options(
        max_steps=max_steps,
        max_same_errors=max_same_errors,
        invalid=invalid,
        advise=advise,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        sampling_seed=sampling_seed,
        window=window,
        dtype=dtype,
        shots=shots,
        examples_sha256=None if shown is None else shown.sha256,
        repeat_guard=repeat_guard,
        user_server=user_server,
        user_model=user_model,
        prove=prove or 0,
        prove_states=prove_states if prove else 0,
    )
    chosen = choose_worlds(worlds, trust=trust)
    part: Part = "record" if keep == "solved" else "practice"
    tasks = draw_tasks(
        chosen, split, count, seed, short=short, asking=asking, injections=injections, part=part, skip=skip
    )[:limit]
    if advise or "expert" in (policy or ()):
        require_expert(chosen, tasks, "--advise" if advise else "--policy expert")
    folders = {actor.label: out / actor.label for actor in actors}
    if shard is not None:
        number, of = shard_to_numbers(shard, tasks=len(tasks))
        tasks = tasks[number - 1 :: of]
        folders = {label: folder / "shards" / f"{number}-of-{of}" for label, folder in folders.items()}
    tries = tasks_to_tries(tasks, samples=samples, temperature=temperature, sampling_seed=sampling_seed)
    if shown is not None:
        tries = [replace(attempt, examples=shown.nearest(attempt.task, shots)) for attempt in tries]
    drawn = {
        "command": command,
        "split": split.value,
        "count": len(tasks),
        "seed": seed,
        "worlds": worlds,
        "short": short,
        "asking": asking,
        "injections": injections,
        "samples": samples,
        "examples": None if examples is None else str(examples),
        "identity": chosen.identity,
    }
    with servers or nullcontext():
        for actor in actors:
            run_actor(actor, tries, options, folders[actor.label], chosen=chosen, told=drawn)
            if keep == "solved":
                keep_solved(folders[actor.label])
    Console().print(kpi_table(list(folders.values())))
    print_asking([read_run(folder) for folder in folders.values()])
    for called, folder in folders.items():
        for line in filter(None, (not_applicable_to_text(folder), replies_to_text(folder), shots_to_text(folder))):
            print(f"{called}: {line}")
    runs = {called: read_run(folder) for called, folder in folders.items()}
    for run in runs.values():
        if run.invalid:
            end_if_too_many(sum(run.invalid.values()), len(tries))
    return runs


def _check_user_model(server: str | None, model: str | None, *, asking: bool, keep: str, prove: int | None) -> None:
    """Refuse a user played by a model where it makes no training data.

    Raises:
        UserError: what is missing or does not go with it.
    """
    if server is None and model is None:
        return
    if server is None or model is None:
        raise UserError("--user-server and --user-model go together: where the model is served, and its name there")
    if not asking or keep != "solved":
        raise UserError(
            "--user-server: a user played by a model is for making training data: give --asking and --keep solved"
        )
    if prove:
        raise UserError("--user-server does not go with --prove, which tries again what was said")


def keep_solved(folder: Path) -> None:
    """Write the records of a finished run that solve their task beside the others, as training data."""
    solved = [record for record in records_in(folder / RECORDS) if record.outcome is Outcome.SUCCESS]
    write_whole(folder / SOLVED, "".join(record.to_json() + "\n" for record in solved))
    print(f"wrote {folder / SOLVED}: {len(solved)} records")


def shard_to_numbers(shard: str, *, tasks: int) -> tuple[int, int]:
    """`2/8` as (2, 8).

    Raises:
        UserError: if it is no such thing, or there are fewer tasks than shards.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise UserError(f"--shard {shard}: expected i/n with i from 1 to n, such as 2/8")
    if of > tasks:
        raise UserError(f"--shard {shard}: there are {tasks} tasks only")
    return number, of


def tasks_to_tries(tasks: Sequence[Task], *, samples: int, temperature: float, sampling_seed: int) -> list[Try]:
    """Each task `samples` times. Where something is drawn, each try has a seed of its own, whatever else is run."""
    if temperature == 0:
        return [Try(task) for task in tasks]
    return [
        Try(task, sample, zlib.crc32(f"{sampling_seed}:{task.id}:{sample}".encode()))
        for task in tasks
        for sample in range(samples)
    ]


def run_actor(
    actor: Actor,
    tries: Sequence[Try],
    options: Options,
    folder: Path,
    *,
    told: dict[str, Any],
    chosen: Chosen = OURS,
) -> None:
    """Carry out the tries that `folder` does not hold yet, and leave `trajectories.jsonl` and `kpis.json` there.

    Args:
        told: what was called and how the tasks were drawn, for `kpis.json`.

    Raises:
        UserError: if the model cannot be used. What is finished by then stays, and the same call goes on from there.
    """
    with claimed_folder(folder):
        _run_actor(actor, tries, options, folder, told, chosen)


def _run_actor(
    actor: Actor, tries: Sequence[Try], options: Options, folder: Path, told: dict[str, Any], chosen: Chosen
) -> None:
    identity = actor.identity()
    refuse_other_worlds(folder, chosen)
    key = run_key(identity, options, chosen)
    wanted = {try_to_record_id(attempt, label=actor.label): attempt for attempt in tries}
    done = find_done(folder, key, wanted)
    if is_finished(folder, key, done, wanted) and not done.left(wanted):
        note = "; a server's weights cannot be seen: remove the folder if they changed" if actor.server else ""
        print(f"{actor.label}: already done, reused ({folder}){note}")
        return
    if done.records:
        print(f"{actor.label}: {len(done.records)} of {len(tries)} tries are done already and kept")
    began = time.monotonic()
    stages = read_stages(actor.name) if actor.has_weights else None  # what is wrong with it is told first
    if left := done.left(wanted):
        carry_out(actor, left, options, done, folder / unfinished(key), chosen)
    records = done.records_of(wanted)
    rollouts: list[Trajectory] = []
    if options.prove:
        earlier = [folder / ROLLOUTS] if has_key(folder, key) else []
        kept = folder / unfinished_rollouts(key)
        records, rollouts = prove_records(actor, records, wanted, options, chosen, kept=kept, earlier=earlier)
    lines = [record.to_json().encode() + b"\n" for record in records]
    beyond = [attempt.task for attempt in tries if attempt.task.id in done.beyond]
    result = BenchmarkRun(
        label=actor.label,
        model=actor.name,
        model_hash=identity,
        weights_sha256=weights_sha256(actor.name) if actor.has_weights else None,
        key=key,
        **told,
        server=actor.server if actor.servers is None else actor.servers.command,
        tokenizer=actor.tokenizer,
        options=asdict(options),
        kpis=kpis(records),
        pass_hat_k={k: pass_hat_k(records, k) for k in range(1, told["samples"] + 1)},
        by_world=kpis_by(records, "world"),
        by_tier=kpis_by(records, "tier"),
        by_language=kpis_by(records, "language"),
        by_fault=kpis_by(records, "fault"),
        success_by_context=success_by_context(records),
        not_applicable=NotApplicable(
            window=done.window,
            tries=len(beyond),
            tasks=sorted({task.id for task in beyond}),
            by_context=Counter(task.context_tokens for task in beyond),
        ),
        replies=count_replies(records),
        asking_kpis=asking_kpis(records),
        invalid=Counter(each.reason for each in done.invalid),
        invalid_share=round(len(done.invalid) / max(len(tries), 1), 4),
        tries_by_shots=Counter(len(attempt.examples) for attempt in tries) if options.shots else None,
        wall_seconds=round(time.monotonic() - began, 1),
        versions=versions(),
        code_sha256=code_sha256(ROOT, ALL_CODE),
        trained_on=stages,
        trajectories_sha256=hashlib.sha256(b"".join(lines)).hexdigest(),
    )
    with whole_result(folder / RECORDS) as files:
        files.open(folder / RECORDS).writelines(lines)
        text = json.dumps(result.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
        files.write(folder / "kpis.json", text)
        if options.prove:
            files.write(folder / ROLLOUTS, "".join(record.to_json() + "\n" for record in rollouts))
        else:
            files.remove(folder / ROLLOUTS)  # of an earlier run
    for file_of_a_stopped_run in folder.glob(unfinished("*")):
        file_of_a_stopped_run.unlink()


def carry_out(
    actor: Actor, tries: Sequence[Try], options: Options, done: Done, unfinished: Path, chosen: Chosen = OURS
) -> None:
    """Run tries into `done`, each record being written to `unfinished` as it ends."""
    beyond: list[Try] = []
    kinds = chosen.kinds
    with actor.acting(options) as policy, _user_of(options) as user:
        model = policy if isinstance(policy, Model) else None
        records = run_tasks(
            policy,
            tries if model is None else within_window(model, tries, beyond, kinds),
            label=actor.label,
            max_steps=options.max_steps,
            max_same_errors=options.max_same_errors,
            live=options.batch_size if actor.is_asked else max(options.batch_size, 16),
            advise=options.advise,
            invalid=options.invalid,
            repeat_guard=options.repeat_guard,
            step_in=None if options.intervene is None else partial(step_in, options.intervene),
            kinds=kinds,
            user=user,
            invalid_tries=done.invalid,
        )
        with whole_file(unfinished) as whole:
            whole.writelines(record.to_json().encode() + b"\n" for record in done.records.values())
        with appending(unfinished) as file:
            for record in with_progress(records, f"running {actor.label}", total=len(tries)):
                file.write(record.to_json().encode() + b"\n")
                file.flush()  # a kill takes what is in memory, not what the system has
                done.records[record.id] = record
    if done.invalid:
        print(f"{actor.label}: {invalid_to_text(done.invalid)}")
    done.beyond |= {attempt.task.id for attempt in beyond}
    done.window = None if model is None else model.window


@contextmanager
def _user_of(options: Options) -> Iterator[UserModel | None]:
    """The model that plays the users, if one does."""
    if options.user_server is None or options.user_model is None:
        yield None
        return
    from benchmark.agent.user_model import UserModel  # noqa: PLC0415 - only where a server is asked

    with closing(UserModel(options.user_server, options.user_model, api_key=read_api_key(API_KEY_ENV))) as user:
        yield user


def not_applicable_to_text(folder: Path) -> str:
    """One line on the tasks of a finished run that its model's window could not hold; empty where there are none."""
    run = read_run(folder)
    beyond = run.not_applicable
    if not beyond.tries:
        return ""
    told = ", ".join(f"{count} with {size} tokens of context" for size, count in sorted(beyond.by_context.items()))
    window = "the server's window" if beyond.window is None else f"the window of {beyond.window} tokens"
    shown = f", with {shots} examples shown before each" if (shots := run.options.get("shots")) else ""
    return f"not applicable: {beyond.tries} tries beyond {window} ({told}){shown}"


def count_replies(records: Iterable[Trajectory]) -> Replies:
    """How the model's turns were read: what could not be, and what another reader might not have read."""
    unreadable: list[str] = []
    other_forms: Counter[str] = Counter()
    for record in records:
        unreadable += [action.error or "" for action in record.action_sequence if action.command == INVALID_CALL]
        read_as = (record.metadata.model_extra or {}).get("read_as", [])
        other_forms.update(str(form) for _, form in read_as)
    return Replies(
        unreadable=len(unreadable),
        unreadable_by_the_servers_fault=sum(reason.startswith(SERVERS_FAULT) for reason in unreadable),
        in_another_form=dict(sorted(other_forms.items())),
    )


def replies_to_text(folder: Path) -> str:
    """One line on the turns of a finished run that the server spoilt, or that were read in another form than the template's."""
    replies = read_run(folder).replies or Replies()
    parts = []
    if spoilt := replies.unreadable_by_the_servers_fault:
        records = folder / RECORDS
        parts.append(f"{spoilt} turns are unreadable by the server's fault; their `error` in {records} says why")
    if forms := replies.in_another_form:
        named = ", ".join(f"{count} {form}" for form, count in forms.items())
        parts.append(
            f"calls were read in another form than the template's own in {sum(forms.values())} turns ({named})"
        )
    return "; ".join(parts)


def shots_to_text(folder: Path) -> str:
    """One line on the tries before which fewer examples were shown than were asked for; empty where there are none."""
    result = json.loads((folder / "kpis.json").read_text(encoding="utf-8"))
    asked, tries = result["options"].get("shots"), result.get("tries_by_shots") or {}
    fewer = {shots: count for shots, count in sorted(tries.items()) if int(shots) < asked}
    told = ", ".join(f"{count} with {shots}" for shots, count in fewer.items())
    why = "the others are of the same task"
    return f"fewer than {asked} examples before {sum(fewer.values())} tries ({told}): {why}" if fewer else ""
