"""Reference log-probs on disk: what is computed once stays computed, whatever is killed, shared or changed."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from train.reference import ENTRY_BYTES, ReferenceCache, cache_folder, fill, reference_key, row_key
from train.tree import Rendered

ROOT = Path(__file__).resolve().parents[1]


def row(
    n: int,
    *,
    id: str | None = None,
    group: str | None = None,
    prompt: Sequence[int] | None = None,
    chosen_weights: Sequence[float] = (1.0, 0.0, 1.0),
) -> Rendered:
    """Pair n, with numbers that no other n has."""
    prompt = [1, 2, n] if prompt is None else list(prompt)
    nothing = [0.0] * len(prompt)
    rejected = [n + 1] * (n % 7 + 1)
    return Rendered(
        id or f"pair{n}", group or f"pair{n}",
        ((([*prompt, n, 4, 5], [*nothing, *chosen_weights]),), (([*prompt, *rejected], [*nothing, *[1.0] * len(rejected)]),)),
    )  # fmt: skip


class Model:
    """A reference that counts what it is asked, and answers with float32 numbers that depend on the row alone."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, rows: list[Rendered]) -> list[tuple[float, float]]:
        self.asked += [each.id for each in rows]
        return [
            (float32(-sum(chosen[0][0]) / 3), float32(-sum(rejected[0][0]) / 7))
            for chosen, rejected in map(sides, rows)
        ]


def sides(row: Rendered) -> tuple[Any, Any]:
    return row.sides[0], row.sides[1]


def float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def test_a_second_run_computes_only_the_new_rows_and_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = Model(), Model()
    rows = [row(n) for n in range(100)]
    before = fill(ReferenceCache(tmp_path, model_key="m"), rows, first, batch_size=16)
    assert sorted(first.asked) == sorted(each.id for each in rows)

    # Another mixture: another order, some left out, one twice, ten new, one under another name.
    mixed = [
        *reversed(rows[:90]),
        rows[3],
        replace(rows[4], id="renamed", group="another"),
        *[row(n) for n in range(100, 110)],
    ]
    chosen, rejected = fill(ReferenceCache(tmp_path, model_key="m"), mixed, second, batch_size=3)
    assert sorted(second.asked) == sorted(f"pair{n}" for n in range(100, 110))
    assert chosen[:90] == before[0][:90][::-1] and rejected[:90] == before[1][:90][::-1]
    assert (chosen[90], chosen[91]) == (before[0][3], before[0][4])
    assert (chosen[-1], rejected[-1]) == Model()([mixed[-1]])[0]


def test_step_pairs_of_one_trajectory_are_computed_side_by_side(tmp_path: Path) -> None:
    model = Model()
    rows = [row(n, group=f"trajectory{n % 3}") for n in range(12)]
    fill(ReferenceCache(tmp_path, model_key="m"), rows, model, batch_size=4)
    batches = [{int(name[4:]) % 3 for name in model.asked[at : at + 4]} for at in (0, 4, 8)]
    assert sorted(map(len, batches)) == [1, 1, 1]


def test_a_row_that_occurs_twice_is_computed_once_and_long_rows_come_first(tmp_path: Path) -> None:
    model = Model()
    chosen, _ = fill(ReferenceCache(tmp_path, model_key="m"), [row(1), row(6), row(1)], model)
    assert model.asked == ["pair6", "pair1"]
    assert chosen[0] == chosen[2] != chosen[1]


def test_another_model_or_other_content_is_computed_anew(tmp_path: Path) -> None:
    fill(ReferenceCache(tmp_path, model_key="m"), [row(1)], Model())
    one = row(1)
    for key, changed in [
        ("other", one),
        ("m", row(1, prompt=[1, 2, 3])),
        ("m", row(1, chosen_weights=(1.0, 1.0, 1.0))),
        ("m", row(1, chosen_weights=(0.5, 0.0, 1.0))),
        ("m", replace(one, sides=one.sides[::-1])),
        ("m", replace(one, sides=((*one.sides[0], *one.sides[0]), one.sides[1]))),
    ]:
        model = Model()
        fill(ReferenceCache(tmp_path, model_key=key), [changed], model)
        assert model.asked == ["pair1"], changed


sequences = st.lists(st.integers(0, 200_000), max_size=4).map(lambda ids: (ids, [float(i % 2) for i in ids]))
all_sides = st.tuples(*[st.lists(sequences, max_size=3).map(tuple)] * 2)


@settings(max_examples=300, deadline=None)
@given(all_sides, all_sides)
def test_keys_are_equal_exactly_when_the_content_is(one: Any, other: Any) -> None:
    """The same ids split at another place are another row."""
    assert (row_key(Rendered("a", "b", one)) == row_key(Rendered("c", "d", other))) == (one == other)


def test_the_same_ids_in_other_sequences_are_another_row() -> None:
    split = ((([1, 2], [0.0, 1.0]), ([3], [1.0])), (([4], [1.0]),))
    joined = ((([1, 2, 3], [0.0, 1.0, 1.0]),), (([4], [1.0]),))
    moved = ((([1, 2], [0.0, 1.0]),), (([3], [1.0]), ([4], [1.0])))
    assert len({row_key(Rendered("a", "a", each)) for each in (split, joined, moved)}) == 3


@settings(max_examples=50, deadline=None)
@given(chosen=st.floats(allow_nan=False, allow_infinity=False), rejected=st.floats(max_value=0, allow_infinity=False))
def test_every_finite_number_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, chosen: float, rejected: float
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    key = row_key(row(1))
    ReferenceCache(folder, model_key="m").put({key: (chosen, rejected)})
    found = ReferenceCache(folder, model_key="m").get([key])[key]
    assert struct.pack("dd", *found) == struct.pack("dd", chosen, rejected)


def test_what_is_no_number_is_given_back_and_never_stored(tmp_path: Path) -> None:
    chosen, _ = fill(ReferenceCache(tmp_path, model_key="m"), [row(1)], lambda rows: [(float("nan"), 0.0)])
    assert chosen[0] != chosen[0]
    assert len(ReferenceCache(tmp_path, model_key="m")) == 0


def test_a_wrong_number_of_results_is_an_error_and_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        fill(ReferenceCache(tmp_path, model_key="m"), [row(1), row(2)], lambda rows: [(0.0, 0.0)])
    assert len(ReferenceCache(tmp_path, model_key="m")) == 0


@pytest.mark.parametrize("kept_bytes", [0, 1, ENTRY_BYTES - 1, ENTRY_BYTES, 3 * ENTRY_BYTES + 17])
def test_a_write_that_was_cut_short_loses_only_what_was_cut(tmp_path: Path, kept_bytes: int) -> None:
    rows = [row(n) for n in range(5)]
    expected = fill(ReferenceCache(tmp_path, model_key="m"), rows, Model())
    (part,) = tmp_path.glob("m/*.part")
    part.write_bytes(part.read_bytes()[:kept_bytes])
    model = Model()
    assert fill(ReferenceCache(tmp_path, model_key="m"), rows, model) == expected
    assert len(model.asked) == 5 - kept_bytes // ENTRY_BYTES
    assert fill(ReferenceCache(tmp_path, model_key="m"), rows, again := Model()) == expected
    assert again.asked == []


def test_a_damaged_entry_is_computed_again(tmp_path: Path) -> None:
    rows = [row(n) for n in range(5)]
    expected = fill(ReferenceCache(tmp_path, model_key="m"), rows, Model())
    (part,) = tmp_path.glob("m/*.part")
    content = bytearray(part.read_bytes())
    content[2 * ENTRY_BYTES + 40] ^= 1  # one bit of one log-prob
    part.write_bytes(content)
    model = Model()
    assert fill(ReferenceCache(tmp_path, model_key="m"), rows, model) == expected
    assert len(model.asked) == 1


WRITER = """
import sys, time
from tests.test_reference import Model, row
from train.reference import ReferenceCache, fill
folder, start, count, batch, pause_s = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
model = Model()
def compute(rows):
    time.sleep(pause_s)
    return model(rows)
cache = ReferenceCache(folder, model_key="m")
print("ready", flush=True)
sys.stdin.readline()
fill(cache, [row(n) for n in range(start, start + count)], compute, batch_size=batch)
print(len(model.asked), flush=True)
"""


def writer(folder: Path, start: int, count: int, batch: int, pause_s: float = 0.0) -> subprocess.Popen[str]:
    """A process that stores `count` rows from row `start` on, once it is told to go."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), *map(str, (start, count, batch, pause_s))],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def test_two_processes_write_at_once_and_a_third_is_killed_in_the_midst(tmp_path: Path) -> None:
    """Two overlap in their rows; the third writes one entry at a time until SIGKILL. Nothing that was stored is lost."""
    rows = [row(n) for n in range(3000)]
    keys = [row_key(each) for each in rows]
    processes = [
        writer(tmp_path, 0, 300, 4),
        writer(tmp_path, 200, 300, 4),
        writer(tmp_path, 500, 2500, 1, pause_s=0.01),
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    cache = ReferenceCache(tmp_path, model_key="m")
    deadline = time.monotonic() + 60
    while not cache.get(keys[500:]) and time.monotonic() < deadline:
        time.sleep(0.005)
    processes[2].send_signal(signal.SIGKILL)
    assert [process.wait(60) for process in processes] == [0, 0, -signal.SIGKILL]
    for process in processes:
        assert process.stdin and process.stdout
        process.stdin.close()
        process.stdout.close()

    stored = cache.get(keys)
    assert set(keys[:500]) <= stored.keys() and 500 < len(stored) < 3000
    model = Model()
    assert fill(ReferenceCache(tmp_path, model_key="m"), rows, model, batch_size=1000) == tuple(
        map(list, zip(*Model()(rows), strict=True))
    )
    assert len(model.asked) == 3000 - len(stored)
    assert len(list(tmp_path.glob("m/*.part"))) == 4


def test_an_open_cache_sees_what_another_process_stores(tmp_path: Path) -> None:
    here = ReferenceCache(tmp_path, model_key="m")
    assert len(here) == 0
    process = writer(tmp_path, 0, 3, 1)
    assert process.communicate("go\n", timeout=60)[0] == "3\n"
    model = Model()
    fill(here, [row(n) for n in range(4)], model)
    assert model.asked == ["pair3"]


def loaded(base: str, adapter: str | None, **config: Any) -> Any:
    model = SimpleNamespace(
        dtype=torch.float32, config=SimpleNamespace(**{"_commit_hash": None, "quantization_config": None, **config})
    )
    return SimpleNamespace(model=model, base=base, adapter=adapter)


def test_the_reference_key_follows_weights_configs_and_precision_not_place(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder, config in ((base, "config.json"), (adapter, "adapter_config.json")):
        folder.mkdir()
        save_file({"weight": torch.ones(3)}, folder / "model.safetensors")
        (folder / config).write_text(json.dumps({"lora_alpha": 32}))
    key = reference_key(loaded(str(base), str(adapter)))
    assert key == reference_key(loaded(str(base), str(adapter)))
    moved = tmp_path / "moved"
    shutil.copytree(adapter, moved)
    (moved / "README.md").write_text("a model card")
    assert reference_key(loaded(str(base), str(moved))) == key

    others = [
        reference_key(loaded(str(base), None)),
        reference_key(loaded(str(base), str(adapter)), autocast="bfloat16"),
        reference_key(loaded(str(base), str(adapter), quantization_config={"load_in_4bit": True})),
        reference_key(loaded("org/model", None, _commit_hash="a")),
        reference_key(loaded("org/model", None, _commit_hash="b")),
    ]
    (moved / "adapter_config.json").write_text(json.dumps({"lora_alpha": 16}))
    others.append(reference_key(loaded(str(base), str(moved))))
    save_file({"weight": torch.zeros(3)}, adapter / "model.safetensors")
    others.append(reference_key(loaded(str(base), str(adapter))))
    assert len({key, *others}) == 1 + len(others)


def test_the_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLTUNE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "reference"
    monkeypatch.delenv("TOOLTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tooltune" / "reference"
