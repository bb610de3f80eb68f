"""How fast curation is, and how much memory it takes, on a file made here; side by side with what one would do otherwise.

    python scripts/measure/curation_speed.py --rows 100000 --out /tmp/speed
    python scripts/measure/curation_speed.py --rows 1000000 --out /tmp/speed --skip-peers

The file holds chats of about 4 kB with a tool, one in eight in Korean; 5 % are exact copies, 5 % near copies (four words
changed), 1 % refusals and 0.5 % hold a test task. Each step is run over the whole file in one and in two processes, then
all four in one run. Peak memory is the sum over all processes, looked at every fifth of a second. The result is speed.json
and a table.

Peers on the same file: `datasets` filter and map (with the exact hash and the refusal pattern of this project, so that
only the machinery differs) and datatrove's MinHash in its default size (14 buckets of 8 hashes of 5 words), with this
project's words in the place of NLTK's, which are slower.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from core.command_line import Parser

COMMON = {
    "english": "the file report of server order customer table count value folder from price note which update between",
    "korean": "파일을 보고서 서버의 주문 고객이 표에서 합계를 값을 폴더로 가격 메모 새로운 확인해 그리고 목록에 날짜",
}


def make_vocabulary(randomness: random.Random) -> tuple[list[str], list[str]]:
    """Words in English and Korean shapes: a few common ones, many rare ones."""
    letters, syllables = "abcdefghijklmnopqrstuvwxyz", [chr(code) for code in range(0xAC00, 0xD7A3, 61)]
    latin = ["".join(randomness.choices(letters, k=randomness.randint(3, 9))) for _ in range(40_000)]
    hangul = ["".join(randomness.choices(syllables, k=randomness.randint(2, 4))) for _ in range(20_000)]
    return COMMON["english"].split() * 600 + latin, COMMON["korean"].split() * 300 + hangul


def make_rows(rows: int, tasks: list[str], seed: int = 7) -> Any:
    """Lines of the file, one after the other, so that a file of any length can be written."""
    randomness = random.Random(seed)
    latin, hangul = make_vocabulary(randomness)
    recent: list[tuple[str, list[str], list[str], bool]] = []
    for number in range(rows):
        luck = randomness.random()
        korean = randomness.random() < 0.125
        words = hangul if korean else latin
        if luck < 0.10 and recent:
            request, result, answer, korean = randomness.choice(recent)
            if luck < 0.05:
                result = list(result)
                for _ in range(4):
                    result[randomness.randrange(len(result))] = randomness.choice(words)
        else:
            length = 0.6 if korean else 1
            request = " ".join(randomness.choices(words, k=int(40 * length)))
            result = randomness.choices(words, k=int(430 * length))
            answer = randomness.choices(words, k=int(90 * length))
            if 0.10 <= luck < 0.105:
                request = f"{request}. {randomness.choice(tasks)}"
            elif 0.105 <= luck < 0.115:
                answer = ["I'm sorry, but I can't assist with that.", *answer]
        if len(recent) < 20_000:
            recent.append((request, result, answer, korean))
        else:
            recent[randomness.randrange(20_000)] = (request, result, answer, korean)
        path = f"{request.split()[0]}/{number % 9973}.txt" if luck >= 0.10 else f"{request.split()[0]}/x.txt"
        messages = [
            {"role": "system", "content": "Solve the task with the tools."},
            {"role": "user", "content": request},
            {"role": "assistant", "tool_calls": [{"id": "c1", "name": "read_file", "arguments": {"path": path}}]},
            {"role": "tool", "content": " ".join(result), "tool_call_id": "c1", "name": "read_file"},
            {"role": "assistant", "content": " ".join(answer)},
        ]
        yield json.dumps({"messages": messages, "id": f"row-{number}", "source": "made"}, ensure_ascii=False)


def measured(command: list[str]) -> dict[str, float]:
    """Run a command; wall and processor seconds, and the peak of the memory of it and its children, in MiB."""
    began, peak = time.monotonic(), 0
    processor: dict[int, float] = {}  # by process, because nobody waits for the children of a fork server
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        total = 0
        try:
            for each in [process, *process.children(recursive=True)]:
                times = each.cpu_times()
                processor[each.pid] = times.user + times.system
                total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        peak = max(peak, total)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    seconds, used = time.monotonic() - began, sum(processor.values())
    return {"seconds": round(seconds, 2), "cpu_seconds": round(used, 2), "peak_mib": round(peak / 2**20)}


def measure_ours(file: Path, tasks: Path, folder: Path, counts: list[int], *, alone: bool) -> dict[str, Any]:
    steps: dict[str, dict[str, Any]] = {
        "filter": {"step": "filter"},
        "exact": {"step": "exact"},
        "near": {"step": "near"},
        "decontaminate": {"step": "decontaminate", "against": [str(tasks)]},
    }
    runs = {name: [step] for name, step in steps.items()} if alone else {}
    runs["all four"] = list(steps.values())
    results: dict[str, Any] = {}
    for name, chosen in runs.items():
        for workers in counts:
            config = folder / "curate.yaml"
            config.write_text(json.dumps({"inputs": [str(file)], "steps": chosen}))  # JSON is YAML
            out = folder / f"out-{workers}"
            shutil.rmtree(out, ignore_errors=True)
            command = [sys.executable, "-m", "data", "curate", "--config", str(config), "--out", str(out)]
            result = measured([*command, "--workers", str(workers)])
            manifest = json.loads((out / "manifest.json").read_text())
            timings = json.loads((out / "timings.json").read_text())["stages"]
            result |= {"rows_per_second": round(manifest["read"] / result["seconds"]), "kept": manifest["kept"]}
            results[f"{name}, {workers} worker{'s' * (workers > 1)}"] = result | {"stages": timings}
            print(name, workers, {key: value for key, value in result.items() if key != "stages"}, flush=True)
        hashes = {json.loads((folder / f"out-{workers}/manifest.json").read_text())["sha256"] for workers in counts}
        if len(hashes) > 1:
            raise SystemExit(f"{name}: the number of workers changed the result")
    return results


PEERS = {
    "datasets filter and map": """
import sys, datasets, hashlib, json, re
file, workers = sys.argv[1], int(sys.argv[2])
rows = datasets.load_dataset("json", data_files=file, split="train", cache_dir=sys.argv[3])
pattern = re.compile(r"can.t assist with|as an ai language model", re.I)
def said(row): return [[m["role"], m.get("content") or ""] for m in row["messages"]]
def good(row): return not any(role == "assistant" and pattern.search(text) for role, text in said(row))
def key(row): return {"key": hashlib.blake2b(json.dumps(said(row)).encode(), digest_size=16).hexdigest()}
rows = rows.filter(good, num_proc=workers).map(key, num_proc=workers)
seen = set()
rows = rows.filter(lambda row: not (row["key"] in seen or seen.add(row["key"])))
rows.remove_columns("key").to_json(sys.argv[3] + "/out.jsonl", force_ascii=False)
""",
    "datatrove MinHash": """
import sys, json, xxhash
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.word_tokenizers import WordTokenizer
from data.curation.text import split_words
file, workers, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class Words(WordTokenizer):
    def __init__(self): super().__init__("xx")
    def word_tokenize(self, text): return split_words(text)
    def sent_tokenize(self, text): return [text]
    def span_tokenize(self, text): return [(0, len(text))]
def read(data, rank, world_size):
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % world_size == rank:
                row = json.loads(line)
                text = "\\n".join(m.get("content", "") for m in row["messages"][1:])
                yield Document(text=text, id=row["id"], metadata={"row": line})
config = MinhashConfig()
def hash_text(text): return xxhash.xxh64_intdigest(text.encode())
def run(pipeline, tasks, name):
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=f"{out}/logs/{name}").run()
if __name__ == "__main__":
    signatures = MinhashDedupSignature(f"{out}/signatures", config=config, language=Words())
    signatures._hash_func = hash_text  # datatrove 0.10 gives text to xxhash, and xxhash 4 takes bytes only
    run([read, signatures], 2 * workers, "signatures")
    run([MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)], config.num_buckets, "buckets")
    run([MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)], 1, "cluster")
    run([read, MinhashDedupFilter(f"{out}/remove"), JsonlWriter(f"{out}/kept", compression=None)], 2 * workers, "kept")
""",
}


def measure_peers(file: Path, folder: Path, counts: list[int], rows: int) -> dict[str, Any]:
    results = {}
    for name, code in PEERS.items():
        script = folder / "peer.py"
        script.write_text(code)
        for workers in counts:
            scratch = folder / "peer"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            result = measured([sys.executable, str(script), str(file), str(workers), str(scratch)])
            result["rows_per_second"] = round(rows / result["seconds"])
            results[f"{name}, {workers} worker{'s' * (workers > 1)}"] = result
            print(name, workers, result, flush=True)
    return results


def main() -> None:
    parser = Parser(description="Measure curation. See the head of the file.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True, help="folder for the made file and speed.json")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes to run with")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--skip-single-steps", action="store_true", help="only the run of all four steps")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tasks = arguments.out / "tasks.jsonl"
    command = [sys.executable, "-m", "benchmark", "tasks", "--count", "200", "--out", str(tasks)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    instructions = [json.loads(line)["instruction"] for line in tasks.read_text(encoding="utf-8").splitlines()]
    file = arguments.out / f"rows-{arguments.rows}.jsonl"
    if not file.exists():
        with open(file, "w", encoding="utf-8") as lines:
            for line in make_rows(arguments.rows, instructions):
                lines.write(line + "\n")
    print(f"{file}: {arguments.rows} rows, {file.stat().st_size / arguments.rows:.0f} bytes each", flush=True)
    results = measure_ours(file, tasks, arguments.out, arguments.workers, alone=not arguments.skip_single_steps)
    if not arguments.skip_peers:
        results |= measure_peers(file, arguments.out, arguments.workers, arguments.rows)
    (arguments.out / "speed.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{'run':36} {'rows/s':>8} {'seconds':>8} {'CPU s':>8} {'peak MiB':>9}")
    for name, result in results.items():
        cells = (result[key] for key in ("rows_per_second", "seconds", "cpu_seconds", "peak_mib"))
        print(f"{name:36} " + " ".join(f"{cell:8}" for cell in cells))


if __name__ == "__main__":
    main()
