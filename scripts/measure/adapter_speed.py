"""How many rows a second `data convert` reads: each adapter, and side by side with `datasets`.

    python scripts/measure/adapter_speed.py                      # all of it, a minute or two
    python scripts/measure/adapter_speed.py --adapter alpaca     # one adapter, no comparison

The comparison converts the same JSON Lines file of 1 kB rows with `data convert` and with
`datasets.load_dataset(...).map(...)`, taking turns. `map` is given the same conversion (the adapter, whose chat goes into a
column of text), and beside it the plainest function that builds messages, which checks nothing. Neither checks the JSON as
`convert` does. Imports do not count. CPU time is that of all processes together, so it also tells something on a machine that
others use.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.command_line import Parser
from data.chats import Skip
from data.formats.catalogue import ADAPTERS
from data.formats.inputs import find_input
from data.formats.reading import adapt
from data.sets.convert import convert

SAMPLES = Path(__file__).parents[2] / "tests" / "samples"
ROWS, TIMES = 20_000, 5
SECONDS_PER_ADAPTER = 0.3


def alpaca_row(index: int) -> dict[str, Any]:
    """About 1 kB, a quarter of it Korean."""
    return {
        "instruction": f"{index}: 다음 글을 한 문장으로 요약해 주세요. Summarise the text below in one sentence.",
        "input": "The committee met on Tuesday and put the question off until the new figures are there. " * 5,
        "output": "위원회는 새 수치가 나올 때까지 결정을 미루었습니다. The decision was put off. " * 4,
    }


def sharegpt_row(index: int) -> dict[str, Any]:
    """About 1 kB in six turns."""
    said = (
        "서울에서 부산까지 얼마나 걸리나요? How long does it take by train, and where do I change? ",
        "About three hours. " * 10,
    )
    turns = [{"from": ("human", "gpt")[turn % 2], "value": said[turn % 2] + str(turn)} for turn in range(6)]
    return {"id": f"row-{index}", "conversations": turns}


def alpaca_to_messages(row: dict[str, Any]) -> dict[str, Any]:
    """What `map` does, in the plainest way."""
    question = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]}


def sharegpt_to_messages(row: dict[str, Any]) -> dict[str, Any]:
    """What `map` does, in the plainest way."""
    roles = {"human": "user", "gpt": "assistant"}
    return {"messages": [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> int:
    """JSON Lines; returns the mean bytes of a row."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path.stat().st_size // len(rows)


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time of a call, and the CPU time that it took in this process and its workers."""

    def cpu() -> float:
        return time.process_time() + sum(os.times()[2:4])  # of this process, and of workers that have ended

    start, cpu_start = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - start, cpu() - cpu_start


def compare(name: str, make: Callable[[int], dict[str, Any]], plain: Callable[..., Any], folder: Path) -> list[str]:
    """Rows of the table: ours with one and two workers, and `datasets`, each as median (lowest to highest) of TIMES."""
    import datasets  # noqa: PLC0415 - only the comparison needs it

    datasets.disable_progress_bars()
    path = folder / f"{name}.jsonl"
    row_bytes = write_rows(path, [make(index) for index in range(ROWS)])
    source = find_input(str(path))

    def theirs(function: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        cache = tempfile.mkdtemp(dir=folder)
        rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
        rows.map(function, remove_columns=rows.column_names)
        shutil.rmtree(cache)

    def same(row: dict[str, Any]) -> dict[str, Any]:
        (result,) = adapt(ADAPTERS[name], row)
        return {"row": result.reason if isinstance(result, Skip) else result.model_dump_json()}

    ways: dict[str, Callable[[], object]] = {
        "datasets load + map, same conversion": lambda: theirs(same),
        "datasets load + map, plain function": lambda: theirs(plain),
        "convert": lambda: convert(source, folder / "out.jsonl", adapter=name),
        "convert --workers 2": lambda: convert(source, folder / "out.jsonl", adapter=name, workers=2),
    }
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(TIMES):
        for way, work in ways.items():
            seconds[way].append(seconds_of(work))
    wall = {way: [ROWS / each for each, _ in seconds[way]] for way in ways}
    base = statistics.median(wall["datasets load + map, same conversion"])
    return [
        f"| {name} | {row_bytes} | {way} | {statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) "
        f"| {statistics.median(speeds) / base:.2f}x | {ROWS / statistics.median(cpu for _, cpu in seconds[way]):,.0f} |"
        for way, speeds in wall.items()
    ]


def adapter_row(name: str, folder: Path) -> str:
    """One row of the table: the rows of the adapter's sample that are kept, again and again for about a second."""
    adapter = ADAPTERS[name]
    sample = SAMPLES / f"{'trajectories' if name == 'trajectory' else name}.jsonl"
    rows = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    if adapter.group_by is None and name != "trajectory":
        rows = [row for row in rows if not all(isinstance(result, Skip) for result in adapt(adapter, row))]
    path = folder / f"{name}.rows.jsonl"

    def measure(count: int) -> tuple[float, int]:
        each = [dict(row) for row in itertools.islice(itertools.cycle(rows), count)]
        if name == "trajectory":
            each = [{**row, "id": f"{index}"} for index, row in enumerate(each)]
        if adapter.group_by is not None:
            each = [{**row, adapter.group_by: f"{row[adapter.group_by]}{i // len(rows)}"} for i, row in enumerate(each)]
        size = write_rows(path, each)
        source = find_input(str(path))
        return seconds_of(lambda: convert(source, folder / "out.jsonl", adapter=name))[1], size

    seconds, _ = measure(500)
    count = max(500, int(500 * SECONDS_PER_ADAPTER / seconds))
    seconds, size = measure(count)
    path.unlink()
    return f"| {name} | {size} | {count / seconds:,.0f} |"


def main() -> None:
    """Print Markdown."""
    parser = Parser(description=__doc__)
    parser.add_argument("--adapter", choices=ADAPTERS, help="measure this one only, and do not compare")
    chosen = parser.parse_args().adapter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen is None:
            print(
                "| adapter | bytes a row | way | rows/s of wall time, median (range) | of datasets | rows/s of CPU time |"
            )
            print("|---|---|---|---|---|---|")
            for lines in (
                compare("alpaca", alpaca_row, alpaca_to_messages, folder),
                compare("sharegpt", sharegpt_row, sharegpt_to_messages, folder),
            ):
                print("\n".join(lines), flush=True)
            print()
        print("| adapter | bytes a sample row | rows/s of CPU time |\n|---|---|---|")
        for adapter in [chosen] if chosen else ADAPTERS:
            print(adapter_row(adapter, folder), flush=True)


if __name__ == "__main__":
    main()
