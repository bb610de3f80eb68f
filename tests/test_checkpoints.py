"""Runs that are killed, stopped, damaged or fed bad numbers, and what they come back to.

The children are forked from a process in which torch is loaded already, so a kill costs a second and not ten.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainerCallback

from core.errors import UserError
from support.forking import forked, kill
from support.training import adapter_hash, forked_two, six_steps, steps
from train import checkpoints, fit, outcome, sft, training_data
from train.outcome import Diverged, NoCheckpoint, Preempted, run_main
from train.trainers import ChatTrainer

ROOT = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.usefixtures("without_picture")


@pytest.fixture(autouse=True)
def references_in_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLTUNE_CACHE", str(tmp_path / "cache"))


class AtStep(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            self.action()


def with_callback(main: Callable[[list[str]], None], arguments: list[str], callback: TrainerCallback) -> None:
    """Run `main` with one more callback in its trainer."""
    original = fit.MetricsFile

    class Metrics(original):  # type: ignore[misc, valid-type] # the class is looked up when the run starts
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            callback.on_step_end(args, state, control, **kwargs)

    fit.MetricsFile = Metrics  # type: ignore[misc]
    try:
        main(arguments)
    finally:
        fit.MetricsFile = original  # type: ignore[misc]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())  # type: ignore[no-any-return] # JSON


@pytest.fixture(scope="module")
def whole(minute_model: Path, sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    sft.main(six_steps(minute_model, sets["chats"], out))
    return out


# Resume


def test_a_kill_while_the_final_adapter_is_made_changes_nothing(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is resumed without a further step, which the HF Trainer would make."""
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(fit, "save_model", lambda *_: kill())
        assert forked(lambda: sft.main(arguments)) == -signal.SIGKILL
    sft.main(arguments)
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)
    assert steps(tmp_path / "run") == list(range(1, 7))


def test_a_resumed_run_may_choose_its_checkpoint_and_later_ones_are_set_aside(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run", resume=tmp_path / "run" / "checkpoint-4")
    sft.main(arguments)
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "run" / checkpoints.EARLIER)] == ["checkpoint-6"]
    assert steps(tmp_path / "run") == list(range(1, 7))


# Atomic checkpoints


def snapshot(folder: Path) -> dict[str, str]:
    """Path -> sha256 of everything below `folder`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def count_file_operations(then: Callable[[int], object]) -> None:
    """Call `then` with a running number before each file operation that this process makes from Python."""
    done = 0

    def before(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate") or (
            event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        )
        if writes:
            done += 1
            then(done)

    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal done
        done += 1
        then(done)
        real_fsync(descriptor)

    os.fsync = fsync
    sys.addaudithook(before)


def test_a_kill_at_every_file_operation_of_a_save_leaves_a_whole_checkpoint(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save of step 4, with `save_total_limit` 1: so the older checkpoint is deleted in it.

    Children die before each file operation that Python makes, and inside of the writes that torch and safetensors make
    below Python. Whatever they leave, checkpoint 2 or checkpoint 4 is whole, with the bytes of the unbroken run; and what is
    left is resumed once for each of the two.
    """
    out = tmp_path / "run"
    states: dict[str, Path] = {}
    good: dict[str, dict[str, str]] = {}
    outcomes: list[str] = []
    original = ChatTrainer._save_checkpoint

    def save(trainer: Any, model: Any, trial: Any) -> None:
        step = trainer.state.global_step
        if step == 4:
            before = tmp_path / "before"
            shutil.copytree(out, before)

            def die_at(operation: int) -> int:
                case = tmp_path / "case"
                shutil.rmtree(case, ignore_errors=True)
                shutil.copytree(before, case)

                def in_child() -> None:
                    trainer.args.output_dir = str(case)
                    if operation > 0:
                        count_file_operations(lambda done: kill() if done == operation else None)
                    else:  # the system kills whoever writes beyond this size
                        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                        resource.setrlimit(resource.RLIMIT_FSIZE, (-operation, -operation))
                    original(trainer, model, trial)

                ended = forked(in_child)
                if ended < 0:
                    chosen = checkpoints.newest_whole(case)
                    assert chosen is not None
                    outcomes.append(chosen.name)
                    assert snapshot(chosen).keys() == good["checkpoint-2"].keys()
                    if chosen.name == "checkpoint-2":
                        assert snapshot(chosen) == good["checkpoint-2"]
                    fullest = states.get(chosen.name)
                    if fullest is None or len(snapshot(case)) >= len(snapshot(fullest)):
                        shutil.rmtree(tmp_path / chosen.name, ignore_errors=True)
                        states[chosen.name] = case.rename(tmp_path / chosen.name)
                return ended

            for size in (100, 3_000, 30_000, 200_000):
                assert die_at(-size) == -signal.SIGXFSZ
            operation = 1
            while die_at(operation) == -signal.SIGKILL:
                operation += 1
        original(trainer, model, trial)
        good[f"checkpoint-{step}"] = snapshot(out / f"checkpoint-{step}")

    arguments = ["--save_total_limit", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(ChatTrainer, "_save_checkpoint", save)
        sft.main([*six_steps(minute_model, sets["chats"], out), *arguments])
    assert len(outcomes) > 40
    assert outcomes == sorted(outcomes)  # first the old one, from some operation on the new one
    assert set(outcomes) == {"checkpoint-2", "checkpoint-4"}
    for state in states.values():
        sft.main([*six_steps(minute_model, sets["chats"], state), *arguments])
        assert adapter_hash(state) == adapter_hash(out)
        assert steps(state) == list(range(1, 7))
        assert not (state / checkpoints.SAVING).exists()


@pytest.mark.parametrize("operation", [3, 30, 45])
def test_a_command_killed_inside_its_save_goes_on_from_the_last_good_checkpoint(
    operation: int, minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path
) -> None:
    """At the first files, at the flush of the last ones, and after the rename, when older checkpoints are deleted."""
    arguments = [*six_steps(minute_model, sets["chats"], tmp_path / "run"), "--save_total_limit", "1"]
    original = ChatTrainer._save_checkpoint

    def save(trainer: Any, model: Any, trial: Any) -> None:
        if trainer.state.global_step == 4:
            count_file_operations(lambda done: kill() if done == operation else None)
        original(trainer, model, trial)

    def command() -> None:
        ChatTrainer._save_checkpoint = save  # type: ignore[method-assign] # in the child only
        run_main(lambda: sft.main(arguments))

    assert forked(command) == -signal.SIGKILL
    assert forked(lambda: run_main(lambda: sft.main(arguments))) == 0
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)
    assert steps(tmp_path / "run") == list(range(1, 7))


def damage(checkpoint: Path, kind: str) -> str:
    """Harm one file of a checkpoint; the words that the complaint must hold."""
    path = checkpoint / "optimizer.pt"
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[:-100])
    elif kind == "edited":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif kind == "missing":
        path.unlink()
    elif kind == "a link":
        path.rename(checkpoint.parent / "elsewhere")
        path.symlink_to(checkpoint.parent / "elsewhere")
    elif kind == "not written with this checkpoint":
        path = checkpoint / "adapter_model.bin"
        path.write_bytes(b"pickle")
    else:
        path = checkpoint / checkpoints.MANIFEST
        path.write_text(path.read_text().replace('"step": ', '"step": 1'))
    return f"{path}: "


KINDS = ["truncated", "edited", "missing", "a link", "not written with this checkpoint", "does not match its own hash"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in KINDS:
        case = tmp_path / kind.replace(" ", "-")
        shutil.copytree(whole, case)
        named = damage(case / "checkpoint-6", kind)
        assert checkpoints.newest_whole(case) == case / "checkpoint-4"
        complaint = capsys.readouterr().err
        assert named in complaint and kind in complaint, complaint
    run = tmp_path / "truncated"
    unfinished(run)
    sft.main(six_steps(minute_model, sets["chats"], run))
    assert adapter_hash(run) == adapter_hash(whole)
    assert checkpoints.problems_of(run / "checkpoint-6") == []


def unfinished(run: Path) -> None:
    """Make a finished run look as if it had been killed at its end."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "finished": None}))
    (run / "adapter_model.safetensors").unlink()


def test_where_no_checkpoint_is_whole_the_exit_code_is_3(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    unfinished(tmp_path / "run")
    for checkpoint in checkpoints.checkpoints(tmp_path / "run"):
        damage(checkpoint, "truncated")
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    with pytest.raises(NoCheckpoint, match=r"none of its 3 checkpoints is whole .*optimizer\.pt: truncated"):
        sft.main(arguments)
    assert {"status": "no_checkpoint", "exit_code": 3}.items() <= status(tmp_path / "run").items()
    with pytest.raises(NoCheckpoint, match=r"checkpoint-4/optimizer\.pt: truncated"):
        sft.main([*arguments, "--resume", str(tmp_path / "run" / "checkpoint-4")])
    assert forked(lambda: run_main(lambda: sft.main(arguments))) == 3


def test_a_full_disk_is_a_message_and_the_older_checkpoint_stays(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The disk is full from the second save on: no file of that save may grow beyond 100 kB."""
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    limit = (100_000, resource.RLIM_INFINITY)
    fill = AtStep(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert forked(lambda: run_main(lambda: with_callback(sft.main, arguments, fill))) == 2
    message = capfd.readouterr().err
    assert "checkpoint-4: the checkpoint could not be written" in message and "Traceback" not in message
    assert "bytes are free. checkpoint-2 is as it was" in message
    assert not (tmp_path / "run" / checkpoints.SAVING).exists()
    assert status(tmp_path / "run")["status"] == "user_error"
    sft.main(arguments)
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)


def test_room_for_a_checkpoint_is_looked_for_before_training(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5_000))
    with pytest.raises(UserError, match=r"a checkpoint needs [\d,]+ bytes, 5,000 bytes are free"):
        sft.main(six_steps(minute_model, sets["chats"], tmp_path / "run", audit_allow="disk"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_rotation_deletes_broken_and_old_checkpoints_and_never_the_newest_or_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10, 20):
        made = tmp_path / f"checkpoint-{step}"
        made.mkdir()
        if step != 20:  # a kill in an earlier rotation left this one half deleted
            checkpoints.write_manifest(made, step=step, settings={})
    checkpoints.rotate(tmp_path, 2, newest=tmp_path / "checkpoint-10", best=str(tmp_path / "checkpoint-1"))
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-10"]
    checkpoints.rotate(tmp_path, 1, newest=tmp_path / "checkpoint-10", best=None)
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-10"]


# Signals


def test_signals_finish_the_step_save_and_exit_75(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path
) -> None:
    """SIGTERM and a second one in the save; then SIGUSR1 at a step that ends an epoch; the bytes stay the same."""
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    original = ChatTrainer._save_checkpoint

    def twice(trainer: Any, model: Any, trial: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(trainer, model, trial)
        os.kill(os.getpid(), signal.SIGUSR1)

    def first() -> None:
        ChatTrainer._save_checkpoint = twice  # type: ignore[method-assign] # in the child only
        with_callback(sft.main, arguments, AtStep(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))

    assert forked(lambda: run_main(first)) == 75
    told = {"status": "preempted", "exit_code": 75, "step": 3, "max_steps": 6, "checkpoint": "checkpoint-3"}
    assert told.items() <= status(tmp_path / "run").items()
    second = AtStep(4, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert forked(lambda: run_main(lambda: with_callback(sft.main, arguments, second))) == 75
    assert status(tmp_path / "run")["step"] == 4
    sft.main(arguments)
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)
    assert steps(tmp_path / "run") == list(range(1, 7))


def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path
) -> None:
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    typed = AtStep(3, lambda: os.kill(os.getpid(), signal.SIGINT))

    def interrupted() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
        with_callback(sft.main, arguments, typed)

    assert forked(lambda: run_main(interrupted)) == 130
    assert status(tmp_path / "run")["status"] == "interrupted"
    sft.main(arguments)
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)


def test_a_signal_before_the_first_step_stops_at_once(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "load_model", lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    assert forked(lambda: run_main(lambda: sft.main(arguments))) == 75
    assert status(tmp_path / "run")["status"] == "preempted"


def test_signalling_one_of_two_processes_stops_both_at_the_same_step(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """Two gloo processes with dropout: the second one alone gets SIGTERM; resumed, they end with an unbroken pair's bytes."""
    more = {"per_device_train_batch_size": 2, "save_steps": 3, "max_steps": 7}
    two = six_steps(minute_model, sets["chats"], tmp_path / "two", **more)

    def term() -> None:
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    began = time.monotonic()
    assert forked_two(lambda: run_main(lambda: with_callback(sft.main, two, AtStep(4, term)))) == [75, 75]
    told = {"status": "preempted", "exit_code": 75, "step": 5, "checkpoint": "checkpoint-5"}  # inside of an epoch
    assert told.items() <= status(tmp_path / "two").items()
    assert time.monotonic() - began < 120
    assert forked_two(lambda: run_main(lambda: sft.main(two))) == [0, 0]
    unbroken = six_steps(minute_model, sets["chats"], tmp_path / "unbroken", **more)
    assert forked_two(lambda: run_main(lambda: sft.main(unbroken))) == [0, 0]
    assert adapter_hash(tmp_path / "two") == adapter_hash(tmp_path / "unbroken")
    assert steps(tmp_path / "two") == list(range(1, 8))


# Bad numbers


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run_within_the_step(
    where: str, minute_model: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth step's loss is NaN, or one of its gradients is infinite. The records named are those of its batch."""
    shown: list[Any] = []
    collate = training_data.UnitCollator.__call__
    original = ChatTrainer.training_step

    def remember(collator: Any, units: list[Any]) -> Any:
        shown.append([unit["ids"] for unit in units])
        return collate(collator, units)

    def spoil(trainer: Any, model: Any, inputs: Any, items: Any = None) -> Any:
        loss = original(trainer, model, inputs, items)
        if trainer.state.global_step == 3 and where == "loss":
            trainer.seen[-1] = (loss * float("nan"), trainer.seen[-1][1])
        elif trainer.state.global_step == 3:
            next(p for p in model.parameters() if p.grad is not None).grad[0, 0] = float("inf")
        return loss

    monkeypatch.setattr(training_data.UnitCollator, "__call__", remember)
    monkeypatch.setattr(ChatTrainer, "training_step", spoil)
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    with pytest.raises(Diverged, match=r"step 4: the (loss|norm of the gradients) is not a finite number"):
        sft.main(arguments)
    told = {"status": "diverged", "exit_code": 4, "step": 3, "checkpoint": "checkpoint-2"}
    assert told.items() <= status(tmp_path / "run").items()
    assert checkpoints.newest_whole(tmp_path / "run") == tmp_path / "run" / "checkpoint-2"
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()
    dumped = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert dumped["step"] == 4
    # Three steps an epoch, so the fourth step's batch is the fourth that was put together.
    text = AutoTokenizer.from_pretrained(minute_model).batch_decode(shown[3])
    assert dumped["records"] == sorted(f"chat{re.search(r'Read ([0-9]+)', row)[1]}" for row in text)  # type: ignore[index]


def test_weights_that_are_not_finite_are_neither_saved_nor_published(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    def learn_too_fast(trainer: Any) -> None:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data[...] = float("inf")

    caught: list[Any] = []
    original = outcome.Watch.on_step_end

    class Spoiled(outcome.Watch):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            caught.append(self.trainer)
            if state.global_step == 6:
                learn_too_fast(self.trainer)
            original(self, args, state, control, **kwargs)

    fit.Watch = Spoiled  # type: ignore[misc, attr-defined] # for this run
    try:
        with pytest.raises(Diverged, match="step 6: a trained weight is not a finite number"):
            sft.main(six_steps(minute_model, sets["chats"], tmp_path / "run", save_strategy="no"))
    finally:
        fit.Watch = outcome.Watch  # type: ignore[misc, attr-defined]
    assert caught
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()


# State that does not match, and two runs on one folder


def test_changes_since_the_checkpoint_are_refused_with_a_diff(
    minute_model: Path, sets: dict[str, Path], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    unfinished(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint-6")
    model, data = tmp_path / "model", tmp_path / "data"
    shutil.copytree(minute_model, model)
    shutil.copytree(sets["chats"], data)
    arguments = six_steps(model, data, tmp_path / "run")

    def refused(*more: str) -> str:
        with pytest.raises(UserError) as caught:
            sft.main([*arguments, *more])
        return str(caught.value)

    message = refused("--learning_rate", "1e-3", "--lora_r", "4")
    assert "checkpoint-4 was made with other settings:\n  learning_rate: 0.005 -> 0.001\n  lora_r: 16 -> 4\n" in message
    assert "--allow_mismatch true" in message
    assert "units a step: 4 -> 6" in refused("--per_device_train_batch_size", "6")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 5000.0}))
    assert "model base: " in refused()
    (model / "config.json").write_text(json.dumps(config))
    template = tmp_path / "template.jinja"
    template.write_text((minute_model / "chat_template.jinja").read_text() + "{# other #}")
    assert "model chat template: " in refused("--chat_template_path", str(template))
    manifest = json.loads((data / "manifest.json").read_text())
    rows = (data / "train.jsonl").read_text().splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(rows[:-1]))
    digest = hashlib.sha256((data / "train.jsonl").read_bytes()).hexdigest()
    manifest["splits"]["train"] |= {"rows": len(rows) - 1, "sha256": digest}
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert "data train.jsonl: " in refused()

    capsys.readouterr()
    more = ["--data", str(sets["chats"]), "--learning_rate", "1e-3"]
    sft.main([*arguments, *more, "--allow_mismatch", "true"])
    assert "learning_rate: 0.005 -> 0.001" in capsys.readouterr().err
    assert adapter_hash(tmp_path / "run") != adapter_hash(whole)


def test_a_copied_model_another_place_and_another_number_of_processes_are_no_change(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One process, then two with half the batch each: the same units in the same steps, so the same weights to 1e-4."""
    plain = {"lora_dropout": 0.0}
    run, alone = tmp_path / "run", tmp_path / "alone"
    sft.main(six_steps(minute_model, sets["chats"], alone, **plain))
    shutil.copytree(alone, run)
    unfinished(run)
    shutil.rmtree(run / "checkpoint-6")
    shutil.copytree(minute_model, tmp_path / "copied")
    more = {**plain, "per_device_train_batch_size": 2}
    two = six_steps(tmp_path / "copied", sets["chats"], run, **more)
    assert forked_two(lambda: run_main(lambda: sft.main(two))) == [0, 0]
    assert "checkpoint-4: written by 1 processes, now 2: the same units in the same steps" in capfd.readouterr().err
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (alone, run))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_the_second_run_on_a_folder_is_refused_and_told_by_whom(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    arguments = six_steps(minute_model, sets["chats"], tmp_path / "run")
    codes: list[int] = []

    def second() -> None:
        codes.append(forked(lambda: run_main(lambda: sft.main(arguments))))
        before = status(tmp_path / "run")
        assert before["status"] == "running" and before["process"] == os.getpid()

    with_callback(sft.main, arguments, AtStep(2, second))
    assert codes == [2]
    with outcome.RunFolder(tmp_path / "run"):

        def asked() -> None:
            with (
                pytest.raises(UserError, match=rf"process {os.getppid()} on .*, since 20"),
                outcome.RunFolder(tmp_path / "run"),
            ):
                pass

        assert forked(asked) == 0
    assert forked(lambda: outcome.RunFolder(tmp_path / "run").__enter__()) == 0  # a dead run holds nothing


def test_a_stop_is_no_error_of_the_user() -> None:
    assert not issubclass(Preempted, UserError)
    assert {outcome.status_of(error("x")) for error in (UserError, NoCheckpoint, Diverged, Preempted, KeyError)} == {
        "user_error", "no_checkpoint", "diverged", "preempted", "crashed",
    }  # fmt: skip
