"""configs/accelerate through the parsers of the installed libraries, also as one machine of several."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file

from data.sets.build import BuildConfig, build
from train import sft
from train.fit import read_metrics

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
SHARED = [path for path in CONFIGS if path.stem in ("ddp", "fsdp2", "zero3")]
NODE = {
    "num_machines": 4,
    "machine_rank": 2,
    "num_processes": 32,
    "main_process_ip": "first",
    "main_process_port": 15001,
}


def launched(config: Path, **options: object) -> Any:
    """The arguments of `accelerate launch`, after the launcher has read the file and checked both."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    parsed = launch_command_parser().parse_args(["--config_file", str(config), *given, "train/sft.py"])
    args, defaults, mixed_precision = _validate_launch_command(parsed)
    fields = [*defaults.deepspeed_config, *(["mixed_precision"] if mixed_precision else [])]
    args.deepspeed_fields_from_accelerate_config = ",".join(fields)  # as launch_command does it
    return args


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_key_is_an_option_of_the_launcher(config: Path) -> None:
    """The launcher refuses an unknown key at the top; inside of fsdp_config and deepspeed_config it takes any."""
    assert load_config_from_file(str(config)).num_machines == 1
    known = vars(launch_command_parser().parse_args(["train/sft.py"]))
    content = yaml.safe_load(config.read_text())
    inner = {**content.get("fsdp_config", {}), **content.get("deepspeed_config", {})}
    assert not inner.keys() - known.keys()
    assert launched(config).mixed_precision == "no"  # `bf16` of the run decides


@pytest.mark.parametrize("config", SHARED, ids=lambda path: path.stem)
def test_a_config_serves_one_machine_of_several(config: Path) -> None:
    args = launched(config, **NODE)
    if config.stem == "zero3":
        command, environment = prepare_deepspeed_cmd_env(args)
        assert command is None  # torchrun on each machine, no pdsh
    else:
        environment = prepare_multi_gpu_env(args)
    assert (args.nnodes, args.node_rank, args.nproc_per_node) == ("4", 2, "8")
    assert args.rdzv_endpoint == "first:15001"
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    if config.stem == "fsdp2":
        with patch_environment(**environment):
            plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
        assert plugin.state_dict_type.name == "FULL_STATE_DICT" and not plugin.activation_checkpointing
        assert plugin.auto_wrap_policy is not None and plugin.cpu_ram_efficient_loading


ZERO3 = """
import json, sys
from types import SimpleNamespace
from deepspeed.runtime.config import DeepSpeedConfig
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig
from trl import DPOConfig, SFTConfig

for kind in (SFTConfig, DPOConfig):
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "bf16": True, "use_cpu": True}
    arguments = kind(output_dir=sys.argv[1], **options)
    filled = HfTrainerDeepSpeedConfig(arguments.deepspeed_plugin.hf_ds_config.config)  # from here on as the Trainer does it
    filled.trainer_config_process(arguments)
    filled.trainer_config_finalize(arguments, SimpleNamespace(config=SimpleNamespace(hidden_size=64)), 10)
    read = DeepSpeedConfig(filled.config)
    zero = read.zero_config
    print(json.dumps([
        zero.stage, zero.offload_optimizer.device == "none", zero.gather_16bit_weights_on_model_save,
        read.bfloat16_config.enabled, read.gradient_accumulation_steps, read.train_micro_batch_size_per_gpu,
    ]))
"""


without_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="deepspeed is not installed: DS_BUILD_OPS=0 pip install deepspeed"
)


@without_deepspeed
def test_deepspeed_reads_what_the_trainer_makes_of_zero3(tmp_path: Path) -> None:
    _, environment = prepare_deepspeed_cmd_env(launched(ROOT / "configs/accelerate/zero3.yaml", num_processes=1))
    environment |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "DS_ACCELERATOR": "cpu",
    }
    environment["MASTER_PORT"] = str(free_port())
    done = subprocess.run([sys.executable, "-c", ZERO3, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[3")]
    assert read == [[3, True, True, True, 4, 2]] * 2


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


# Several processes for real


def options(model: Path, data: Path, out: Path, **more: Any) -> list[str]:
    values = {
        "model_name_or_path": model,
        "data": data,
        "output_dir": out,
        "learning_rate": 5e-3,
        "max_steps": 3,
        **more,
    }
    off = ("bf16", "gradient_checkpointing")
    same = [part for name in off for part in (f"--{name}", "false")]
    same += ["--use_cpu", "true", "--report_to", "none", "--save_strategy", "no", "--eval_strategy", "no"]
    same += ["--logging_steps", "1", "--lora_dropout", "0", "--max_length", "512"]
    return [*same, *(str(part) for name, value in values.items() for part in (f"--{name}", value))]


@pytest.fixture(scope="module")
def one_process(tiny_model: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process learns, in batches of four."""
    out = tmp_path_factory.mktemp("one") / "run"
    sft.main(options(tiny_model, prepared, out, per_device_train_batch_size=4))
    return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    lines = []
    for n in range(16):
        asked = {"role": "user", "content": f"파일 {n}"}
        lines.append(
            {"messages": [asked, {"role": "assistant", "content": f"끝 {n * n}"}], "id": f"chat{n}", "group": f"g{n}"}
        )
    source = folder / "chats.jsonl"
    source.write_text("".join(json.dumps({**line, "source": "test"}) + "\n" for line in lines), encoding="utf-8")
    config = {"sources": [{"adapter": "chats", "path": str(source)}], "validation_share": 0.2}
    build(BuildConfig.model_validate(config), out=folder / "chats")
    return folder / "chats"


def assert_same(one: Path, other: Path) -> None:
    losses = [[line["loss"] for line in read_metrics(folder) if "loss" in line] for folder in (one, other)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4) and len(losses[0]) == 3
    adapters = [load_file(folder / "adapter_model.safetensors") for folder in (one, other)]
    assert adapters[0].keys() == adapters[1].keys()
    assert all(torch.allclose(adapters[0][name], adapters[1][name], atol=1e-4) for name in adapters[0])


def test_two_launchers_train_what_one_process_trains(
    one_process: Path, tiny_model: Path, prepared: Path, tmp_path: Path
) -> None:
    """Two machines on one host, each started as a node of a Slurm job is."""
    config = tmp_path / "empty.yaml"
    config.write_text("{}")
    job = {
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": str(os.getpid()),
        "TOOLTUNE_MAIN_HOST": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, ROOT / "scripts/slurm/job.py", "node", "sft", config]
    command += options(tiny_model, prepared, tmp_path / "two", per_device_train_batch_size=2, ddp_backend="gloo")
    nodes = [
        subprocess.Popen(
            command, env={**os.environ, **job, "SLURM_NODEID": str(rank)}, cwd=ROOT, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    told = [node.communicate(timeout=300)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    assert_same(one_process, tmp_path / "two")


@without_deepspeed
def test_zero3_trains_what_one_process_trains(
    one_process: Path, tiny_model: Path, prepared: Path, tmp_path: Path
) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/zero3.yaml"]
    launch += ["--num_processes", "2", "--main_process_port", str(free_port()), "train/sft.py"]
    arguments = options(tiny_model, prepared, tmp_path / "zero3", per_device_train_batch_size=2)
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    environment["PATH"] = (
        f"{Path(sys.executable).parent}:{environment['PATH']}"  # its build of a small extension wants ninja
    )
    done = subprocess.run([*launch, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(one_process, tmp_path / "zero3")
