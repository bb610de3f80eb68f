"""Model and adapter folders: where they are, here or on the hub; what is in them; what they were trained from and on.

Training leaves `run.json` in the folder of each model. Following these from a model to what it was trained from gives its
stages. Models are known by the sha256 of their weights, so the way never leads to a folder that was trained again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, first_line, nearest
from core.files import file_sha256
from core.json_lines import json_to_object
from data.wire import TrainingRun, TrainingStage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LONGEST_RUN_BYTES = 2**24


def source_sha256(source: str, *, revision: str | None = None) -> str:
    """sha256 over a model or adapter folder: its safetensors and its configs, because alpha and rope scaling act without
    being weights. A hub id is its name and `revision`, the commit."""
    folder = Path(source)
    digest = hashlib.sha256()
    if not folder.is_dir():
        digest.update(f"{source}@{revision}".encode())
    for file in sorted(
        [*folder.glob("*.safetensors"), *folder.glob("config.json"), *folder.glob("adapter_config.json")]
    ):
        status = file.stat()
        digest.update(f"{file.name}:{_file_sha256(file, status.st_size, status.st_mtime_ns)}:".encode())
    return digest.hexdigest()


def model_files(folder: Path) -> list[Path]:
    """All files of a model or adapter folder that decide what it says: weights, configs, tokenizer, template."""
    patterns = (
        *(
            "*.safetensors",
            "config.json",
            "generation_config.json",
            "adapter_config.json",
            "chat_template*",
            "tokenizer*",
        ),
        *("special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    )
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


@functools.lru_cache(maxsize=1024)
def _file_sha256(file: Path, _size: int, _modified_ns: int) -> str:
    return file_sha256(file)


# ---- what a model was trained from ----


def weights_sha256(model: str) -> str | None:
    """The name by which stages know a model folder; None for what is no folder."""
    return source_sha256(model) if Path(model).is_dir() else None


def read_stages(model: str) -> list[TrainingStage]:
    """How a model came to be, the first training first, from the `run.json` in its folder and in those it was trained from.

    The way back ends where a folder has none (a model from elsewhere), or is no longer what training started from.

    Raises:
        UserError: where the way comes back to a folder that it has left.
    """
    stages: list[TrainingStage] = []
    expected = None
    seen: set[Path] = set()
    while (stage := _read_stage(Path(model))) is not None and expected in (None, stage.sha256):
        if (here := Path(model).resolve()) in seen:
            raise UserError(
                f"{model}: by the run.json of {'these folders' if len(seen) > 1 else 'this folder'}, the model was trained "
                "from itself. Remove or mend run.json"
            )
        seen.add(here)
        stages.insert(0, stage)
        model, expected = stage.started_from, stage.started_sha256
    return stages


def _read_stage(folder: Path) -> TrainingStage | None:
    # A checkpoint's options and data stand with its run.
    path = (folder.parent if re.fullmatch(r"checkpoint-\d+", folder.name) else folder) / "run.json"
    try:
        if path.stat().st_size > LONGEST_RUN_BYTES:
            return None
        run = TrainingRun.model_validate(json_to_object(path.read_text(encoding="utf-8")))
        return TrainingStage(
            folder=str(folder),
            sha256=source_sha256(str(folder)),
            method=run.method,
            started_from=run.model.name,
            started_sha256=run.model.name_sha256,
            finished=run.finished,
            data=run.data,
            options=run.options,
        )
    except (OSError, ValueError, KeyError, TypeError):  # no training of ours, which hinders no benchmark
        return None


# ---- a model's folder, or its place on the hub ----


def read_tokenizer(model: str) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """The tokenizer of a model folder, an adapter folder or a hub id, and the ids that end generation, without importing torch.

    An adapter folder holds the tokenizer and template it was trained with; they win over the base's, which still says what ends
    generation.

    Raises:
        UserError: if the model is missing or its tokenizer cannot be used.
    """
    from transformers import GenerationConfig, PreTrainedTokenizerFast  # noqa: PLC0415 - seconds; only with a model

    base, adapter = find_base(model)
    source = adapter if adapter is not None and (Path(adapter) / "tokenizer.json").exists() else base
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
    except (OSError, ValueError, TypeError) as error:
        where = "the folder has no" if Path(source).is_dir() else "no such folder, and the hub or its cache gave no"
        raise UserError(f"{source}: {where} usable tokenizer: {first_line(error)}") from None
    try:
        stop = GenerationConfig.from_pretrained(base).eos_token_id
    except (OSError, ValueError):
        stop = None  # a model without generation_config.json: the tokenizer's eos is what generation stops at
    return tokenizer, stop if isinstance(stop, list) else [] if stop is None else [stop]


def find_base(model: str) -> tuple[str, str | None]:
    """(base, adapter) of a model name: an adapter folder names its own base.

    Raises:
        UserError: if the folder is missing or its adapter names no base.
    """
    missing_model_check(model)
    config = Path(model) / "adapter_config.json"
    if not config.exists():
        check_model_folder(model)
        return model, None
    base = check_adapter_folder(model).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UserError(f"{config}: base_model_name_or_path is missing, so the adapter's base is unknown")
    if not (Path(model) / "adapter_model.safetensors").exists():
        pickled = " (adapter_model.bin is a pickle, which may run code and is not read)"
        raise UserError(
            f"{model}: adapter_model.safetensors is missing"
            f"{pickled if (Path(model) / 'adapter_model.bin').exists() else ''}"
        )
    # A folder is stored as it was typed; it may be meant from where the adapter lies, too.
    if not Path(base).exists() and (Path(model) / base).exists():
        base = str(Path(model) / base)
    missing_model_check(base)
    check_model_folder(base)
    return base, model


def missing_model_check(model: str | Path) -> None:
    """Tell a mistyped folder from a hub id, and an unreachable hub from a missing model, before minutes of retries.

    Raises:
        UserError: if `model` is a folder without a model, looks like a path and is none, or cannot be had from the hub.
    """
    path, name = Path(model), str(model)
    if path.is_dir():
        if not (path / "config.json").exists() and not (path / "adapter_config.json").exists():
            raise UserError(f"{model}: no model here, the folder has neither config.json nor adapter_config.json")
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or (name.count("/") == 1 and path.parent.is_dir()):
        siblings = [str(path.parent / item.name) for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{model}: there is no such model folder.{nearest(str(path), siblings)}")
    import httpx  # noqa: PLC0415 - only for hub ids
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415 - as above

    is_cached = try_to_load_from_cache(name, "config.json") is not None
    if constants.HF_HUB_OFFLINE:
        if not is_cached:
            raise UserError(f"{model}: no such folder, not in the hub's cache, and HF_HUB_OFFLINE is set")
        return
    try:
        httpx.head(constants.ENDPOINT, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL):
        if not is_cached:
            raise UserError(f"{model}: no such folder, not in the hub's cache, and the hub cannot be reached") from None
        sys.stderr.write(f"{constants.ENDPOINT} cannot be reached: {model} is taken from the cache\n")
        constants.HF_HUB_OFFLINE = True  # else each of its files would be asked for again and again


# ---- what a library may believe of a folder ----


LONGEST_CONFIG_BYTES = 2**22


LONGEST_FILES = {
    "tokenizer.json": 2**26,  # the largest in use have 35 MB
    "tokenizer_config.json": 2**24,
    "generation_config.json": 2**20,
    "special_tokens_map.json": 2**22,
    "added_tokens.json": 2**24,
    "chat_template.jinja": 2**20,
    "chat_template.json": 2**20,
}


LONGEST_HEADER_BYTES = 2**24
MOST_PACKED = 8
"""Quantised weights hold several numbers in one."""
_NAME = re.compile(r"[\w.\-]+")
_NAME_PATTERN = re.compile(r"\^?[\w.\\\-]+\$?")
"""Of `rank_pattern`: names with a dot or an end marked, and nothing that is repeated."""
_NAME_LISTS = ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "target_parameters")
MOST_EXPERTS = 2**14
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")


def check_adapter_folder(folder: str | Path) -> dict[str, Any]:
    """adapter_config.json of a folder, when nothing in it could take more than the adapter's own weights do.

    Raises:
        UserError: naming file, field, value and what was expected.
    """
    path = Path(folder) / "adapter_config.json"
    _check_sizes(Path(folder))
    config = _read_json(path, "the configuration of an adapter")

    def refuse(field: str, expected: str) -> UserError:
        shown = json.dumps(config[field], ensure_ascii=False)
        return UserError(f"{path}: field {field!r}: expected {expected}, got {shown[:80]}")

    for field in _NAME_LISTS:
        value = config.get(field)
        if value is None or (isinstance(value, str) and _NAME.fullmatch(value)):
            continue
        if not isinstance(value, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in value):
            raise refuse(field, "a list of names; a pattern may take for ever to match, and is not tried")
    for field in ("rank_pattern", "alpha_pattern"):
        value = config.get(field) or {}
        if not isinstance(value, dict) or not all(map(_NAME_PATTERN.fullmatch, value)):
            raise refuse(field, "names of modules and a number for each")
    for field in ("layer_replication", "megatron_config"):
        if config.get(field) is not None:
            raise refuse(field, "null; the model would be another than the one that is named")
    tensors = dict(_tensors(Path(folder)))
    if not tensors:
        return config  # what is wrong with the weights is told where they are read
    ranks = [shape[0] for name, shape in tensors.items() if "lora_A" in name and len(shape) == 2]
    ranks += [shape[1] for name, shape in tensors.items() if "lora_embedding_A" in name and len(shape) == 2]
    for field, asked in (("r", [config.get("r", 0)]), ("rank_pattern", [*(config.get("rank_pattern") or {}).values()])):
        for rank in asked:
            if isinstance(rank, bool) or not isinstance(rank, int) or (ranks and rank > max(ranks)):
                raise refuse(field, f"at most {max(ranks, default=0)}, the rank of the weights")
    saved = [f".{tensor.rpartition('.')[0]}" for tensor in tensors if "lora_" not in tensor]
    named = config.get("modules_to_save") or []
    for name in [named] if isinstance(named, str) else named:
        if not any(module.endswith(f".{name}") for module in saved):
            raise refuse("modules_to_save", f"modules whose weights the adapter holds, and it holds none of {name!r}")
    return config


def check_model_folder(folder: str | Path) -> None:
    """Refuse a folder whose config asks for far more than its weights hold; a hub id is not looked at.

    Raises:
        UserError: naming file, field, value and what was expected.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        return
    _check_sizes(Path(folder))
    config = _read_json(path, "the configuration of a model")
    tensors = [shape for _, shape in _tensors(Path(folder))]
    if not tensors:
        return
    numbers = sum(map(math.prod, tensors))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        sizes = {name: value for name, value in part.items() if isinstance(value, int) and not isinstance(value, bool)}
        for name in _LAYER_KEYS:
            if sizes.get(name, 0) > len(tensors):
                raise UserError(
                    f"{path}: field {name!r}: {sizes[name]:,} layers, but the weights have {len(tensors):,} tensors"
                )
        width = max(sizes.get("hidden_size", 0), sizes.get("n_embd", 0), sizes.get("d_model", 0), 1)
        for name, value in sizes.items():
            # How large may it be, by the weights? Other numbers, of positions for instance, make no weights.
            most = max(MOST_PACKED * numbers, 2**30)
            if name in ("vocab_size", "intermediate_size", "hidden_size", "n_embd", "d_model", "n_inner"):
                most = MOST_PACKED * numbers // width
            elif name.endswith("experts"):
                most = MOST_EXPERTS
            if value > most:
                raise UserError(f"{path}: field {name!r}: {value:,} is too large for weights of {numbers:,} numbers")


def _check_sizes(folder: Path) -> None:
    for name, longest in LONGEST_FILES.items():
        path = folder / name
        if path.exists() and (not path.is_file() or path.stat().st_size > longest):
            what = f"{path.stat().st_size:,} bytes, more than {longest:,}" if path.is_file() else "no regular file"
            raise UserError(f"{path}: {what}; it is not read")


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > LONGEST_CONFIG_BYTES:
            raise UserError(f"{path}: not {what}: expected a file of at most {LONGEST_CONFIG_BYTES >> 20} MiB")
        value = json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{path}: not {what}: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not {what}: {first_line(error)}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not {what}: expected an object, got {type(value).__name__}")
    return value


def _tensors(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """(name, shape) of all tensors in a folder, from the headers. A damaged file holds none here; its reader says why.

    Raises:
        UserError: if a header is longer than any model's.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > LONGEST_HEADER_BYTES and length < path.stat().st_size:
                    raise UserError(f"{path}: a header of {length:,} bytes, more than {LONGEST_HEADER_BYTES:,}")
                header = json.loads(file.read(length)) if length <= LONGEST_HEADER_BYTES else {}
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            continue
        for name, entry in header.items() if isinstance(header, dict) else ():
            shape = entry.get("shape") if isinstance(entry, dict) else None
            if name != "__metadata__" and isinstance(shape, list) and all(type(side) is int for side in shape):
                yield name, shape
