"""All arms of a sweep on one page: against the start, and what their trainings did to the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmark.kpis import RESAMPLES, SEED, Comparison, compare_shares, kpis, task_of
from benchmark.loop.sweep import START, Sweep, score_of_record
from benchmark.runs.shown import interval, kpi_to_text, points
from core.files import read_json, write_json, write_whole
from core.screen import print_table
from data.chats import Message
from data.records import Outcome, Trajectory, read_trajectories
from data.sets.pair_kinds import said_characters
from data.trajectories import trajectory_to_turns
from data.wire import Kpi

COLUMNS = (
    "arm", "variant", "rows", "seconds", "validation", "test", "to start, points", "better / worse", "score", "calls a task",
    "characters a turn", "entropy", "KL", "chosen log-probs", "stopped",
)  # fmt: skip
TIERS = 3
"""The primary number is of tasks up to this tier; longer ones stand beside it."""


def write_table(sweep: Sweep) -> str:
    """Write table.md and table.json from what is there, and print it."""
    rows = []
    for name in sweep.arms:
        of_seeds = [_of_seed(sweep, seed, name) for seed in sweep.config.seeds]
        rows.append(_row(name, [each for each in of_seeds if each is not None], _starts(sweep)))
    write_json(sweep.out / "table.json", {"config": sweep.config.model_dump(mode="json"), "arms": rows})
    cells = [_cells(row) for row in rows]
    lines = ["| " + " | ".join(line) + " |" for line in (COLUMNS, ["---"] * len(COLUMNS), *cells)]
    write_whole(sweep.out / "table.md", "\n".join(lines) + "\n")
    print_table(COLUMNS, cells, title="\ntest tasks, with 95 % intervals over seeds and tasks")
    return f"wrote {sweep.out / 'table.md'} and {sweep.out / 'table.json'}"


def _starts(sweep: Sweep) -> dict[int, list[Trajectory]]:
    found = {seed: _of_seed(sweep, seed, START) for seed in sweep.config.seeds}
    return {seed: each["records"] for seed, each in found.items() if each is not None}


def _of_seed(sweep: Sweep, seed: int, name: str) -> dict[str, Any] | None:
    """What is there of one arm and seed; None where it was not tested."""
    arm = sweep.arms[name]
    if arm.after and not sweep.is_decided(seed, arm.after):
        return None
    if not sweep.is_decided(seed, name):
        return None
    variant = sweep.winner(seed, name)
    tested = variant.folder / "test" / name / "trajectories.jsonl"
    if not tested.exists():
        return None
    trained = arm.method or ("sft" if name == START else "")
    run = read_json(variant.model / "run.json") if trained else {}
    marker = read_json(variant.folder / ".stages" / f"{trained}.json") if trained else {}
    return {
        "seed": seed,
        "variant": variant.name,
        "records": list(read_trajectories(tested)),
        "validated": list(sweep.validated(name, variant, sweep.rungs(name) - 1)),
        "seconds": marker.get("seconds"),
        "rows": run.get("rows", {}).get("train", {}).get("kept"),
        "stopped": run.get("stopped_at_chosen_drop"),
        "training": training_numbers(run),
        "kinds": read_json(sweep.folder(seed, arm.chosen_of or name) / "pairs.counts.json").get("kinds"),
    }


def training_numbers(run: Mapping[str, Any]) -> dict[str, float]:
    """What a training did to the model on its held-out rows, from run.json.

    `entropy` is in nats a token. `kl` is how much less likely the rejected sides have become, in nats a side: they are the
    reference's own words, so it estimates its divergence. `chosen` is the same of the chosen sides as a share of the
    reference's log-probs; below 0 they have become less likely.
    """
    metrics, options = run.get("metrics") or {}, run.get("options") or {}
    numbers: dict[str, float] = {}
    if (entropy := metrics.get("eval_entropy")) is not None:
        numbers["entropy"] = float(entropy)
    beta = options.get("beta")
    if beta and "eval_rewards/rejected" in metrics:
        numbers["kl"] = -float(metrics["eval_rewards/rejected"]) / float(beta)
        now, gained = float(metrics["eval_logps/chosen"]), float(metrics["eval_rewards/chosen"]) / float(beta)
        if now - gained:
            numbers["chosen"] = gained / abs(now - gained)
    return numbers


def _row(name: str, found: Sequence[dict[str, Any]], starts: Mapping[int, Sequence[Trajectory]]) -> dict[str, Any]:
    """The numbers of one arm over its seeds."""
    if not found:
        return {"arm": name, "seeds": [], "test": None}
    records = [record for each in found for record in each["records"]]
    pairs = [(starts[each["seed"]], each["records"]) for each in found if each["seed"] in starts]
    low = [([r for r in a if _tier(r) <= TIERS], [r for r in b if _tier(r) <= TIERS]) for a, b in pairs]
    better, worse = _counts(pairs)
    return {
        "arm": name,
        "seeds": [each["seed"] for each in found],
        "variants": [each["variant"] for each in found],
        "rows": [each["rows"] for each in found],
        "seconds": [each["seconds"] for each in found],
        "kinds": [each["kinds"] for each in found],
        "validation": asdict(kpis([record for each in found for record in each["validated"]])["success_rate"]),
        "test": asdict(kpis(records)["success_rate"]),
        "gain": asdict(compare_over_seeds(low)),
        "gain_all_tiers": asdict(compare_over_seeds(pairs)),
        "better": better,
        "worse": worse,
        "score": float(np.mean([score_of_record(record) for record in records])),
        "calls": float(np.mean([len(record.action_sequence) for record in records])),
        "characters": _characters_a_turn(records),
        "training": [each["training"] for each in found],
        "stopped": [each["stopped"] for each in found],
    }


def compare_over_seeds(pairs: Sequence[tuple[Sequence[Trajectory], Sequence[Trajectory]]]) -> Comparison:
    """Success of the second minus that of the first, as a mean over seeds and tasks, each seed being one pair of lists.

    The interval draws seeds and tasks anew, both with replacement. One seed alone cannot tell how much seeds differ: then it
    draws tasks only.
    """
    of_seeds = [(_success(before), _success(after)) for before, after in pairs]
    if len(of_seeds) == 1:
        return compare_shares(*of_seeds[0])
    differences = [{task: b[task] - a[task] for task in sorted(a.keys() & b.keys())} for a, b in of_seeds]
    tasks = sorted(set.intersection(*(set(each) for each in differences))) if differences else []
    unpaired = sum(len(a.keys() ^ b.keys()) for a, b in of_seeds)
    if not tasks:
        return Comparison(None, None, None, 0, unpaired)
    table = np.array([[each[task] for task in tasks] for each in differences])
    rng = np.random.default_rng(SEED)
    means = [
        table[rng.integers(len(table), size=len(table))][:, rng.integers(len(tasks), size=len(tasks))].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return Comparison(float(table.mean()), float(low), float(high), len(tasks), unpaired)


def _success(records: Sequence[Trajectory]) -> dict[str, float]:
    tries: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        tries[str(task_of(record).get("id"))].append(record.outcome is Outcome.SUCCESS)
    return {task: sum(each) / len(each) for task, each in tries.items()}


def _counts(pairs: Sequence[tuple[Sequence[Trajectory], Sequence[Trajectory]]]) -> tuple[int, int]:
    better = worse = 0
    for before, after in pairs:
        a, b = _success(before), _success(after)
        better += sum(b[task] > a[task] for task in a.keys() & b.keys())
        worse += sum(b[task] < a[task] for task in a.keys() & b.keys())
    return better, worse


def _tier(record: Trajectory) -> int:
    tier = task_of(record).get("tier")
    return tier if isinstance(tier, int) else 0


def _characters_a_turn(records: Sequence[Trajectory]) -> float:
    turns: list[Message] = [
        message for record in records for message in trajectory_to_turns(record) if message.role == "assistant"
    ]
    return said_characters(turns) / max(1, len(turns))


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["test"] is None:
        return [row["arm"], *["-"] * (len(COLUMNS) - 1)]
    gain = Comparison(**row["gain"])
    shown = "" if row["arm"] == START or gain.value is None else f"{points(gain.value)}{interval(gain)}"
    training: dict[str, list[float]] = defaultdict(list)
    for numbers in row["training"]:
        for name, value in numbers.items():
            training[name].append(value)
    mean = {name: float(np.mean(values)) for name, values in training.items()}
    stopped = sum(each is not None for each in row["stopped"])
    return [
        row["arm"],
        "; ".join(dict.fromkeys(row["variants"])),
        "; ".join(str(each) for each in row["rows"] if each is not None) or "-",
        "; ".join(f"{each:.0f}" for each in row["seconds"] if each is not None) or "-",
        kpi_to_text("success_rate", Kpi(**row["validation"])),
        kpi_to_text("success_rate", Kpi(**row["test"])),
        shown or "-",
        "-" if row["arm"] == START else f"{row['better']} / {row['worse']}",
        f"{row['score']:.2f}",
        f"{row['calls']:.1f}",
        f"{row['characters']:.0f}",
        *(f"{mean[name]:.2f}" if name in mean else "-" for name in ("entropy", "kl")),
        f"{100 * mean['chosen']:+.1f} %" if "chosen" in mean else "-",
        f"{stopped} of {len(row['stopped'])}" if stopped else "",
    ]
