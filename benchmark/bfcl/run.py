"""`python -m benchmark bfcl`: ask a model BFCL's questions, or take predictions from a file, and show what they are worth."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic import ValidationError

from benchmark.agent.episodes import FROZEN_START, Episode, Policy, Try, Turn, Unreadable
from benchmark.bfcl.questions import (
    CATEGORIES,
    PACKAGE,
    Item,
    PredictedCall,
    Prediction,
    find_data,
    read_items,
    read_predictions,
    score_items,
    silence,
)
from benchmark.runs.actors import Actor, Options
from benchmark.runs.shown import kpi_to_text
from benchmark.worlds.kinds import Kind
from benchmark.worlds.world import Task, World
from core.command_line import words_called
from core.errors import UserError, printable
from core.files import appending, claimed_folder, whole_file, whole_result
from core.screen import print_table, with_progress
from data.chats import Message
from data.models import missing_model_check
from data.records import Action, Metadata
from data.wire import Kpi

_REASONS_SHOWN = 5
_SHOWN_BEFORE = Action(command="bfcl", input={}, start_time=FROZEN_START, end_time=FROZEN_START)


class Question(Episode):
    """A question as a policy sees it: an episode of one turn. It has no world, because no call of it is ever run."""

    def __init__(self, item: Item) -> None:
        task = Task(
            id=item.id,
            world="bfcl",
            family=item.category,
            split="test",
            seed=0,
            tier=1,
            language="en",
            instruction=item.messages[-1].content,
            tools=item.tools,
            parameters={},
        )
        super().__init__(Try(task), cast(Kind, None), cast(World, None), Metadata(), FROZEN_START)
        self.item = item
        # A first prompt that a template or a window cannot hold would end the run; here it is a wrong answer among thousands.
        # With an action it is no first prompt.
        self.actions.append(_SHOWN_BEFORE)

    @property
    def messages(self) -> list[Message]:
        """What the policy is given."""
        return list(self.item.messages)


def ask(policy: Policy, items: Iterable[Item], *, live: int) -> Iterator[Prediction]:
    """What a policy says to each question, in the order in which it answers; `live` are asked together."""
    waiting = iter(items)
    questions: list[Question] = []
    while True:
        questions += [Question(item) for item in islice(waiting, live - len(questions))]
        if not questions:
            return
        turns = list(zip(questions, policy.act(questions), strict=True))
        for question, turn in turns:
            if turn is not None:
                policy.forget(question)
                yield turn_to_prediction(turn, question.item)
        questions = [question for question, turn in turns if turn is None]


def turn_to_prediction(turn: Turn, item: Item) -> Prediction:
    """What was said, with the tools under the names that the data has for them."""
    if isinstance(turn, Unreadable):
        return Prediction(id=item.id, text=turn.text, unreadable=turn.reason)
    calls = tuple(
        PredictedCall(name=item.names.get(call.name, call.name), arguments=call.arguments) for call in turn.tool_calls
    )
    return Prediction(id=item.id, calls=calls, text=turn.content)


def answer_all(policy: Policy, items: Sequence[Item], path: Path, *, run: str, live: int) -> dict[str, Prediction]:
    """Ask what `path` does not hold yet, and append each prediction at once, so that a broken-off run goes on there.

    Args:
        run: names the model and its options. Lines of other runs are taken out of the file.
    """
    known = {item.id for item in items}
    found: dict[str, Prediction] = {}
    if path.exists():
        # The last line may be half written; it is asked again.
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                prediction = Prediction.model_validate_json(line)
            except ValidationError:
                continue
            if prediction.run == run:
                found[prediction.id] = prediction
    with whole_file(path) as file:
        file.writelines(prediction.model_dump_json().encode() + b"\n" for prediction in found.values())
    # Questions of one length are asked together, so that little of a batch is padding.
    left = sorted((item for item in items if item.id not in found), key=_length)
    if len(left) < len(items):
        typer.echo(f"{len(items) - len(left)} of {len(items)} questions are answered already ({path})")
    with appending(path) as file:
        for prediction in with_progress(ask(policy, left, live=live), "asking", total=len(left)):
            found[prediction.id] = prediction.model_copy(update={"run": run})
            file.write(found[prediction.id].model_dump_json().encode() + b"\n")
            file.flush()
    return {name: prediction for name, prediction in found.items() if name in known}


def _answers(
    actor: Actor, items: Sequence[Item], path: Path, batch_size: int, max_new_tokens: int
) -> dict[str, Prediction]:
    run = hashlib.sha256(json.dumps([actor.identity(), max_new_tokens]).encode()).hexdigest()[:16]
    with actor.acting(Options(batch_size=batch_size, max_new_tokens=max_new_tokens)) as policy:
        return answer_all(policy, items, path, run=run, live=batch_size)


def _length(item: Item) -> int:
    return sum(len(part.model_dump_json()) for part in (*item.messages, *item.tools))


# ---- the command ----


def bfcl_command(
    model: Annotated[
        str | None, typer.Option(help="Model or adapter folder, or hub id; with --server a name that it serves.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server, as for `run`.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="With --server: folder of the tokenizer; prompts are rendered here, sent as ids.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="With --server: the environment variable that holds the API key, if one is needed.")
    ] = "OPENAI_API_KEY",
    predictions: Annotated[
        Path | None, typer.Option(help="Score these predictions, JSON Lines, instead of asking a model.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of predictions, scores and picture.")] = None,
    categories: Annotated[
        str | None, typer.Option(help=f"Which questions, with commas between; default: all of {', '.join(CATEGORIES)}.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions of each category, the same for every model.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help=f"Folder with the questions; default: that of the installed {PACKAGE}.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Questions that generate together; with --server requests at once.")
    ] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest turn of a model.")] = 256,
    chat_template_path: Annotated[
        str | None, typer.Option("--chat_template_path", help="Chat template file instead of the model's own.")
    ] = None,
) -> None:
    """Score a model on the single-turn AST questions of the Berkeley Function Calling Leaderboard.

    The questions are in a package that is installed alone: pip install --no-deps bfcl-eval==2026.3.23

    A run that was broken off goes on where it stopped. Greedy decoding; dots in names of tools are shown as underscores.

    \b
    Examples:
        python -m benchmark bfcl --model runs/quickstart/round-1/sft --limit 20 --out results/bfcl/sft
        python -m benchmark bfcl --predictions mine.jsonl --categories multiple,irrelevance
    """
    called = words_called(bfcl_command, locals())
    if (model is None) == (predictions is None):
        raise UserError("give --model to ask a model, or --predictions to score what one has said")
    if model is not None and out is None:
        raise UserError("--model needs --out, the folder where its predictions go")
    if server is None and tokenizer is not None:
        raise UserError("--tokenizer goes with --server; a model of --model has its own")
    if server is None and model is not None:
        missing_model_check(model)
    folder = find_data() if data is None else data
    chosen = CATEGORIES if categories is None else [name.strip() for name in categories.split(",") if name.strip()]
    names = list(dict.fromkeys(chosen))
    if not names:
        raise UserError(f"--categories {categories!r}: names no category. All of them: {', '.join(CATEGORIES)}")
    items = read_items(folder, names, limit=limit)
    began = time.monotonic()
    if predictions is not None:
        said, others = read_predictions(predictions, items)
        if others:
            typer.echo(f"{others} predictions belong to other questions and are left out")
    else:
        assert model is not None and out is not None
        actor = Actor(
            label=out.name,
            kind="model" if server is None else "server",
            name=model,
            server=server,
            tokenizer=tokenizer,
            chat_template_path=chat_template_path,
            api_key=os.environ.get(api_key_env),
        )
        with claimed_folder(out):
            said = _answers(actor, items, out / "predictions.jsonl", batch_size, max_new_tokens)
    scores, silent = score_items(items, said), score_items(items, silence(items))
    _print_scores(scores, silent)
    reasons = Counter(prediction.unreadable for prediction in said.values() if prediction.unreadable)
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        typer.echo(f"{count} x unreadable: {printable(reason)}")
    if out is not None:
        result = {
            "label": out.name,
            "model": model,
            "server": server,
            "predictions": str(predictions or out / "predictions.jsonl"),
            "data_sha256": _data_sha256(folder, names),
            "categories": names,
            "limit": limit,
            "questions": len(items),
            "scores": _plain_scores(scores),
            "never_calls": _plain_scores(silent),
            "wall_seconds": round(time.monotonic() - began, 1),
            "command": called,
        }
        with claimed_folder(out), whole_result(out / "bfcl.json") as files:
            files.write(out / "bfcl.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            files.write(out / "bfcl.png", _picture(scores, silent))
        typer.echo(f"wrote {out / 'bfcl.json'} and {out / 'bfcl.png'}")


def _print_scores(scores: Mapping[str, Mapping[str, Kpi]], silent: Mapping[str, Mapping[str, Kpi]]) -> None:
    columns = ("category", "questions", "strict", "never calls", "parsed", "called", "right names", "argument F1")
    rows = [
        (
            *(name, of["strict"].n, _share(of["strict"]), _share(replace(silent[name]["strict"], low=None, high=None))),
            *(_share(kpi) for measure, kpi in of.items() if measure != "strict"),
        )
        for name, of in scores.items()
    ]
    print_table(columns, rows)


def _share(kpi: Kpi) -> str:
    return kpi_to_text("success_rate", kpi)  # all measures are shares


def _plain_scores(scores: Mapping[str, Mapping[str, Kpi]]) -> dict[str, dict[str, Any]]:
    return {name: {measure: asdict(kpi) for measure, kpi in of.items()} for name, of in scores.items()}


def _data_sha256(folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        for path in (folder / f"BFCL_v4_{name}.json", folder / "possible_answer" / f"BFCL_v4_{name}.json"):
            if path.exists():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _picture(scores: Mapping[str, Mapping[str, Kpi]], silent: Mapping[str, Mapping[str, Kpi]]) -> bytes:
    """Bars of the strict scores with their intervals, and a mark where a model that never calls would stand."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, and only wanted where a picture is drawn

    figure = Figure(figsize=(8, 1.2 + 0.35 * len(scores)), layout="constrained")
    axes = figure.subplots()
    strict = [of["strict"] for of in scores.values()]
    values = [kpi.value or 0.0 for kpi in strict]
    spread = [
        [value - (kpi.low or 0.0) for value, kpi in zip(values, strict, strict=True)],
        [(kpi.high or 0.0) - value for value, kpi in zip(values, strict, strict=True)],
    ]
    places = range(len(values))
    axes.barh(places, values, xerr=spread, color="#4a6fa5", height=0.7, error_kw={"ecolor": "#444444", "capsize": 2})
    axes.plot(
        [of["strict"].value or 0.0 for of in silent.values()],
        places,
        "|",
        color="#b5483a",
        ms=16,
        mew=2.5,
        label="never calls",
        clip_on=False,
    )
    axes.set_yticks(places, [f"{name} ({kpi.n})" for name, kpi in zip(scores, strict, strict=True)])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of questions that BFCL's rules call right, with 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png", metadata={"Software": None})
    return picture.getvalue()
