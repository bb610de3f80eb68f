"""What a stranger's model folder asks for is held against its weights, before a library acts on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.errors import UserError
from data.models import LONGEST_FILES, check_adapter_folder, check_model_folder, find_base, read_stages, source_sha256


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """Makes the folder of an adapter of rank 4 with some fields of its config changed."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "adapter"
        folder.mkdir()
        config = {"base_model_name_or_path": str(tiny_model), "peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        name = "base_model.model.model.layers.0.self_attn.q_proj"
        weights = {
            f"{name}.lora_A.weight": np.zeros((4, 64), np.float32),
            f"{name}.lora_B.weight": np.zeros((64, 4), np.float32),
            "base_model.model.lm_head.weight": np.zeros((8, 64), np.float32),
        }
        save_file(weights, folder / "adapter_model.safetensors")
        return folder

    return make


@pytest.mark.parametrize(
    "sound",
    [{}, {"target_modules": ["q_proj", "layers.0.self_attn.v_proj"]}, {"target_modules": "all-linear"},
     {"modules_to_save": ["lm_head"]}, {"rank_pattern": {"^model.layers.0.self_attn.q_proj$": 2}},
     {"layer_replication": None, "exclude_modules": None, "layers_to_transform": [0]}],
)  # fmt: skip
def test_an_ordinary_adapter_is_read(adapter: Callable[..., Path], tiny_model: Path, sound: dict[str, Any]) -> None:
    folder = adapter(**sound)
    assert find_base(str(folder)) == (str(tiny_model), str(folder))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("target_modules", "(([a-z._0-9]+)+)+!", "a list of names"),
        ("target_modules", ["q_proj", "(a+)+$"], "a list of names"),
        ("exclude_modules", "(.*)*x", "a list of names"),
        ("layers_pattern", ["(a|a)*"], "a list of names"),
        ("target_parameters", "(a|a)*b", "a list of names"),
        ("rank_pattern", {"(a+)+$": 4}, "names of modules"),
        ("alpha_pattern", {"(층|층)*": 4}, "names of modules"),
        ("alpha_pattern", [1], "names of modules"),
        ("layer_replication", [[0, 2]] * 1000, "null"),
        ("megatron_config", {"a": 1}, "null"),
        ("r", 10**9, "at most 4"),
        ("r", "4", "at most 4"),
        ("rank_pattern", {"q_proj": 10**8}, "at most 4"),
        ("modules_to_save", ["model"], "whose weights the adapter holds"),
        ("modules_to_save", ["lm_head", "embed_tokens"], "holds none of 'embed_tokens'"),
        ("modules_to_save", "(a+)+", "a list of names"),
    ],
)
def test_an_adapter_that_asks_for_more_is_refused(
    adapter: Callable[..., Path], field: str, value: Any, expected: str
) -> None:
    folder = adapter(**{field: value})
    with pytest.raises(UserError, match=rf"adapter_config\.json: field '{field}': expected .*{expected}") as raised:
        find_base(str(folder))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_hidden_layers", 10**7), ("vocab_size", 10**12), ("hidden_size", 10**9), ("intermediate_size", 10**10),
     ("max_position_embeddings", 10**15), ("num_local_experts", 10**6)],
)  # fmt: skip
def test_a_config_beyond_its_weights_is_refused(tiny_model: Path, tmp_path: Path, field: str, value: int) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    check_model_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    for changed in ({**config, field: value}, {"text_config": {**config, field: value}}):
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=rf"config\.json: field '{field}': {value:,} "):
            check_model_folder(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "[]", "", "{", "null", "\ufeff"])
def test_a_config_that_is_none_is_one_line(adapter: Callable[..., Path], tmp_path: Path, text: str) -> None:
    folder = adapter()
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not the configuration of an adapter"):
        check_adapter_folder(folder)


@pytest.mark.parametrize("name", sorted(LONGEST_FILES))
def test_a_file_that_would_fill_the_memory_is_not_read(tiny_model: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    with open(folder / name, "wb") as file:
        file.truncate(LONGEST_FILES[name] + 1)
    with pytest.raises(UserError, match=f"{name}: .* bytes, more than .*; it is not read"):
        find_base(str(folder))


def test_a_run_that_names_itself_or_comes_back_is_told(tiny_model: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("하나", "둘")]
    for folder in folders:
        shutil.copytree(tiny_model, folder)
    sha256 = source_sha256(str(folders[0]))

    def trained_from(folder: Path, parent: Path) -> None:
        model = {"base": str(parent), "adapter": None, "sha256": {"base": sha256, "adapter": None}}
        run = {"method": "sft", "model": model, "finished": None, "data": {}, "options": {}}
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")

    trained_from(folders[0], folders[1])
    assert [stage.folder for stage in read_stages(str(folders[0]))] == [str(folders[0])]
    trained_from(folders[1], folders[0])
    for start in folders:
        with pytest.raises(UserError, match=r"run\.json of these folders, the model was trained from itself"):
            read_stages(str(start))
    trained_from(folders[0], folders[0] / ".." / folders[0].name)
    with pytest.raises(UserError, match=r"run\.json of this folder, the model was trained from itself"):
        read_stages(str(folders[0]))
