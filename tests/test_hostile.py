"""Files that want more than to be read: each is refused or read as what it says, and what it wanted to do is not done.

Every payload would create the file `pwned`. The controls show that the payloads themselves work.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from core.errors import UserError
from data.models import find_base
from data.rendering.chat_template import ChatTemplate
from data.rendering.control_tokens import Unrenderable
from data.rendering.renderer import Renderer
from data.rendering.replies import text_to_message
from support.commands import Run
from support.training import options, six_steps, train
from train import checkpoints, dpo, sft

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def references_in_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLTUNE_CACHE", str(tmp_path / "cache"))


class Payload:
    """A pickle that runs code when it is read."""

    def __init__(self, pwned: Path) -> None:
        self.pwned = pwned

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.pwned}'",)


@pytest.fixture
def pwned(tmp_path: Path) -> Path:
    return tmp_path / "pwned"


def test_the_payload_works_where_a_pickle_is_trusted(pwned: Path, tmp_path: Path) -> None:
    torch.save(Payload(pwned), tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert pwned.exists()


# ---------------------------------------------------------------- pickles


@pytest.fixture(scope="module")
def stopped(tiny_model: Path, sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as if it had been killed after its checkpoint of step 4."""
    out = tmp_path_factory.mktemp("hostile") / "run"
    os.environ["TOOLTUNE_CACHE"] = str(out.parent / "cache")
    sft.main(six_steps(tiny_model, sets["chats"], out))
    for name in ("run.json", "status.json", "adapter_model.safetensors"):
        (out / name).unlink()
    shutil.rmtree(out / "checkpoint-6")
    return out


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_pickle_in_a_checkpoint_with_a_fitting_manifest_runs_nothing(
    name: str,
    stopped: Path,
    tiny_model: Path,
    sets: dict[str, Path],
    tmp_path: Path,
    pwned: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever can write the checkpoint can write its manifest; so the manifest alone protects nobody."""
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    checkpoint = out / "checkpoint-4"
    manifest = checkpoints.read_manifest(checkpoint)
    torch.save(Payload(pwned), checkpoint / name)
    (checkpoint / "manifest.json").unlink()
    checkpoints.write_manifest(checkpoint, step=4, settings=manifest["settings"])
    assert all("a pickle that asks for posix.system" in problem for problem in checkpoints.problems_of(checkpoint))
    capsys.readouterr()
    sft.main(six_steps(tiny_model, sets["chats"], out))
    said = capsys.readouterr().err
    used = "checkpoint-4" if name == "training_args.bin" else "checkpoint-2"  # arguments are never read
    assert f"going on from {out / used}" in said
    assert (f"{name}: a pickle that asks for posix.system" in said) == (used == "checkpoint-2")
    assert not pwned.exists()


def test_pickled_weights_are_not_read(tiny_model: Path, tmp_path: Path, pwned: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "model.safetensors").unlink()
    torch.save(Payload(pwned), base / "pytorch_model.bin")
    data = tmp_path / "none"
    with pytest.raises(UserError, match="cannot be loaded"):
        sft.main(options(base, data, tmp_path / "out"))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_model)}))
    torch.save(Payload(pwned), adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="pickle"):
        find_base(str(adapter))
    with pytest.raises(UserError, match="pickle"):
        dpo.main(options(adapter, data, tmp_path / "out2"))
    assert not pwned.exists()


def test_a_pickle_of_training_arguments_beside_an_adapter_is_never_read(
    tiny_model: Path, sets: dict[str, Path], tmp_path: Path, stopped: Path, pwned: Path
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(stopped / "checkpoint-4", adapter)
    torch.save(Payload(pwned), adapter / "training_args.bin")
    dpo.main(options(adapter, sets["pairs"], tmp_path / "dpo", max_steps=1))
    assert not pwned.exists()


# ---------------------------------------------------------------- code beside a model


def test_code_in_a_models_folder_is_not_run(tiny_model: Path, tmp_path: Path, pwned: Path) -> None:
    """Also where config and tokenizer ask for it."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "evil.py").write_text(f"open({str(pwned)!r}, 'w')\nclass Evil:\n    pass\n")
    for name, keys in (
        ("config.json", ("AutoConfig", "AutoModelForCausalLM")),
        ("tokenizer_config.json", ("AutoTokenizer",)),
    ):
        config = json.loads((base / name).read_text())
        config["auto_map"] = dict.fromkeys(keys, "evil.Evil")
        (base / name).write_text(json.dumps(config))
    Renderer.from_pretrained(base)
    with pytest.raises(UserError):  # the data are not there; the model was loaded before
        sft.main(options(base, tmp_path / "none", tmp_path / "out"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "evil"}))
    with pytest.raises(UserError, match="cannot be loaded"):
        sft.main(options(base, tmp_path / "none", tmp_path / "out"))
    assert not pwned.exists()


def test_no_option_trusts_remote_code(tiny_model: Path, sets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trust_remote_code"):
        sft.main([*options(tiny_model, sets["chats"], tmp_path / "out"), "--trust_remote_code", "true"])
    for folder in ("data", "train", "benchmark", "scripts"):
        for file in (ROOT / folder).rglob("*.py"):
            assert "trust_remote_code=True" not in file.read_text(encoding="utf-8"), file


# ---------------------------------------------------------------- templates

REACHING = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch PWNED') }}",
    "{{ lipsum.__globals__['os'].popen('touch PWNED').read() }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{% set ns = namespace() %}{{ ns.__init__.__globals__ }}",
    "{% for message in messages %}{{ loop.__class__.__init__.__globals__ }}{% endfor %}",
    "{% for message in messages %}{{ loop._environment.__class__ }}{% endfor %}",
    "{% for message in messages %}{{ loop.cycle.__globals__ }}{% endfor %}",
    "{% for message in messages %}{{ message.get.__self__.__class__.__mro__ }}{% endfor %}",
    "{{ ('{0.__class__.__init__.__globals__}').format(messages) }}",
    "{{ '{m.__class__.__mro__}'.format_map({'m': messages}) }}",
    "{{ (messages | attr('__class__')).__mro__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['os'].system('touch PWNED') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ messages.append({'role': 'user', 'content': 'x'}) }}",
    "{% for message in messages %}{{ message.update({'content': 'x'}) }}{% endfor %}",
    "{% for i in range(10 ** 9) %}x{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
]
AROUND = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("reaching", REACHING)
@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_a_template_that_reaches_for_python_is_refused(
    reaching: str, place: str, tiny_model: Path, pwned: Path
) -> None:
    """Rendered whole or taken apart, before the loop over the messages, in it or after it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    reaching = reaching.replace("PWNED", str(pwned))
    inside = AROUND.replace("{% endfor %}", reaching + "{% endfor %}")
    tokenizer.chat_template = {"before": reaching + AROUND, "inside": inside, "after": AROUND + reaching}[place]
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "안녕"}]
    shown = []
    try:
        template = ChatTemplate(tokenizer)
        shown.append(template.render(messages, [], generate=True))
    except Unrenderable:
        pass
    try:
        beginnings = ChatTemplate(tokenizer).beginnings(messages, [])
        shown += [beginnings.text(count, generate=True) for count in (1, 2, 2)]
    except Unrenderable:
        pass
    for text in shown:  # an undefined name shows as nothing; what must not come out is an object of Python's
        assert not any(
            word in text for word in ("<class", "<built-in", "<function", "<module", "<bound", "root:", "globals")
        )
        assert text.count("<|im_start|>") <= 2  # and no message was added
    assert messages == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "안녕"}]
    assert not pwned.exists()


# ---------------------------------------------------------------- rows


def test_a_row_brings_no_template_and_no_options(run: Run, tmp_path: Path) -> None:
    wanted = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "안녕"}]}
    evil = {
        "chat_template": "{{ 'evil' }}",
        "chat_template_kwargs": {"chat_template": "{{ 'evil' }}", "enable_thinking": False, "tokenize": False},
        "trust_remote_code": True,
        "__class__": "evil",
        "tokenizer": "evil/evil",
    }
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps(row) + "\n"
            for row in (wanted | evil, {"messages": [*wanted["messages"][:1], {**wanted["messages"][1], **evil}]})
        )
    )
    code, _, error = run("convert", rows, "--adapter", "auto", "--out", tmp_path / "chats.jsonl")
    assert code == 0, error
    text = (tmp_path / "chats.jsonl").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 2
    assert "evil" not in text
    assert "enable_thinking" not in text


@pytest.mark.parametrize("depth", [200, 400, 990, 1_000, 3_000, 100_000])
@pytest.mark.parametrize("kind", ["chat", "trajectory"])
def test_deep_json_is_a_counted_reason_everywhere(depth: int, kind: str, run: Run, tmp_path: Path) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    if kind == "chat":
        call = f'{{"type":"function","id":"c","function":{{"name":"f","arguments":{deep}}}}}'
        row = (
            f'{{"messages":[{{"role":"user","content":"hi"}},{{"role":"assistant","content":"","tool_calls":[{call}]}},'
            '{"role":"tool","content":"1","tool_call_id":"c"},{"role":"assistant","content":"ok"}]}'
        )
    else:
        sample = json.loads(
            (ROOT / "tests" / "samples" / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()[0]
        )
        sample["action_sequence"][0]["input"] = {"here": 0}
        row = json.dumps(sample).replace('{"here": 0}', deep)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(row + "\n")
    for command in (
        ("convert", rows, "--adapter", "auto", "--out", tmp_path / "out.jsonl"),
        ("validate", rows),
        ("curate", "dedup", rows, "--out", tmp_path / "curated"),
    ):
        code, out, error = run(*command)
        assert code == (1 if command[0] == "validate" else 2), (command, error)
        assert "Traceback" not in out + error
    assert "nested deeper" in str(text_to_message(f'<tool_call>{{"name": "f", "arguments": {deep}}}</tool_call>'))


# ---------------------------------------------------------------- terminals

DRIVING = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202etxt.exe"


def test_what_a_row_holds_cannot_drive_a_terminal(tiny_model: Path, run: Run, tmp_path: Path) -> None:
    chat = {
        "id": f"id {DRIVING}",
        "source": DRIVING,
        "messages": [{"role": "user", "content": DRIVING}, {"role": "assistant", "content": DRIVING}],
    }
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(json.dumps(chat) + "\n")
    bad.write_text(
        json.dumps({**chat, "messages": [{"role": DRIVING, "content": DRIVING}], DRIVING: 1}) + "\n{" + DRIVING + "\n"
    )
    for command in (
        ("show", good, "--model", tiny_model),
        ("validate", good),
        ("validate", bad),
        ("convert", bad, "--adapter", "chats", "--out", tmp_path / "o.jsonl"),
        ("convert", good, "--adapter", DRIVING, "--out", tmp_path / "o.jsonl"),
        ("curate", "filter", good, "--out", tmp_path / "f"),
        ("score", bad),
        ("show", tmp_path / f"no {DRIVING}", "--model", tiny_model),
    ):
        _, out, error = run(*command)
        assert not any(character in out + error for character in "\x1b\x07\x9b\u202e"), command


def test_an_error_of_training_cannot_drive_a_terminal(tiny_model: Path, tmp_path: Path) -> None:
    done = train("sft", options(tiny_model, Path(f"{tmp_path}/{DRIVING}"), tmp_path / "out"))
    assert done.returncode == 2, done.stderr
    assert "\x1b" not in done.stderr
    assert "\\x1b" in done.stderr


def test_the_pickle_module_is_not_used_to_read() -> None:
    """The only pickles are those between our own processes, and torch's with weights_only."""
    reading = (
        "pickle.load",
        "pickle.Unpickler",
        "joblib.load",
        "allow_pickle=True",
        "weights_only=False",
        "yaml.unsafe_load",
        "yaml.Loader",
        "shelve.",
    )
    for folder in ("data", "train", "benchmark", "scripts"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert not [word for word in reading if word in text], file
