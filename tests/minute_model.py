"""A random model so small that a whole run of six steps takes about a second, and runs of it in several processes.

The vocabulary is what costs: the tiny model carries 49,152 tokens, this one 500 that are learned from the test rows.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from test_train import read_chat, read_pair
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM


@pytest.fixture(scope="session")
def minute_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer model with 500 tokens and the ChatML tool template."""
    return make_minute_model(tiny_model, tmp_path_factory.mktemp("minute") / "model")


def make_minute_model(tiny_model: Path, folder: Path) -> Path:
    rows = [*map(read_chat, range(40)), *map(read_pair, range(40))]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model).train_new_from_iterator(
        [row.model_dump_json() for row in rows], vocab_size=500
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(tiny_model / "chat_template.jinja", folder)
    return folder


def forked(work: Callable[[], object]) -> int:
    """The exit code of `work` in a child process; below zero it is the signal that ended it."""
    return wait(fork(work))


def forked_two(work: Callable[[], object]) -> list[int]:
    """The exit codes of `work` in two gloo processes, as torchrun starts them. When one dies by a signal, so does the other."""
    return wait_for_all(fork_two(work))


def fork_two(work: Callable[[], object]) -> list[int]:
    """Start `work` in two gloo processes; their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def in_rank(rank: int) -> Callable[[], object]:
        def begin() -> object:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
            return work()

        return begin

    return [fork(in_rank(rank)) for rank in range(2)]


def wait_for_all(children: list[int]) -> list[int]:
    """Their exit codes; when one dies by a signal, the others are killed."""
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.wait()
        if child not in children:
            continue
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child] < 0:
            for other in set(children) - codes.keys():
                os.kill(other, signal.SIGKILL)
    return [codes[child] for child in children]


def fork(work: Callable[[], object]) -> int:
    """Start `work` in a child of this process, in which torch is loaded already; its process id."""
    if torch.cuda.is_available():
        pytest.skip("a forked child cannot use CUDA")
    child = os.fork()
    if child == 0:
        code = 70
        try:
            torch.set_num_threads(1)
            work()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def wait(child: int) -> int:
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill() -> None:
    """End this process as the system does: at once."""
    os.kill(os.getpid(), signal.SIGKILL)
