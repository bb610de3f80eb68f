"""The documented ways in which models write calls.

`CALL_FORMS` is the table, by family, after what the model cards say and what the parsers of vLLM and SGLang are tested on;
docs/replies.md shows each. The readers stand beside it, one file for each kind of writing. Which form a reply is
read in, and when text is a call at all, data/rendering/replies.py decides.
"""

from __future__ import annotations

import re
from functools import partial

from data.rendering.call_forms.form import NAME, Form
from data.rendering.call_forms.harmony import HARMONY, harmony_to_turn
from data.rendering.call_forms.json_calls import (
    read_apertus,
    read_bare_json,
    read_fenced_json,
    read_json,
    read_mistral,
    read_named_json,
)
from data.rendering.call_forms.literal_calls import read_builtin, read_gemma, read_python, read_tool_code
from data.rendering.call_forms.tagged_calls import (
    CALL_BEGIN,
    CALL_END,
    CALLS_BEGIN,
    CALLS_END,
    INVOKES,
    SEP,
    read_function_xml,
    read_glm,
    read_invokes,
)


def _tagged(name: str, family: str, opening: str, closing: str) -> Form:
    """A form of JSON between tags, which are given as they are written."""
    begins = re.compile(re.escape(opening) + r"(?=\s*(?:[{\[]|\Z))")
    tags = (opening, closing) if closing else (opening,)
    return Form(name, family, begins, partial(read_json, closing=re.escape(closing)), tags=tags)


def _named(
    name: str, family: str, opening: str, named: str, closing: str, again: str = "", tags: tuple[str, ...] = ()
) -> Form:
    """A form of JSON after a name, all given as patterns."""
    read = partial(read_named_json, name=re.compile(named), closing=closing, again=again)
    return Form(name, family, re.compile(opening), read, tags=tags)


_DEEPSEEK_TAGS = tuple(f"<｜tool▁{word}｜>" for word in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end"))
HERMES = _tagged("hermes", "qwen", "<tool_call>", "</tool_call>")

CALL_FORMS: tuple[Form, ...] = (
    Form(
        "qwen-xml", "qwen", re.compile(
            r"(?:<tool_call>\s*|(?<!<seed:tool_call>)(?<!<seed:tool_call>\n))"
            r"<function=(?P<name>[^>\n]+)>(?=\s*(?:<parameter=|</function>))"
        ),
        partial(read_function_xml, lines=True), tags=("<tool_call>", "</tool_call>"),
    ),
    Form(
        "glm", "glm", re.compile(r"<tool_call>\s*(?P<name>[^\s<>{}\[\]\"']+)(?=\s*(?:<arg_key>|</tool_call>))"), read_glm,
        tags=("<tool_call>", "</tool_call>"),
    ),
    HERMES,
    Form("harmony", "harmony", HARMONY, read_turn=harmony_to_turn, tags=("<|channel|>", "<|message|>", "<|start|>")),
    Form(
        "llama-json", "llama", re.compile(r'(?=(?:\[\s*)?\{\s*"(?:type|name|function|id|parameters|arguments)"\s*:)'),
        read_bare_json, bare=True,
    ),
    _tagged("python-tag", "llama", "<|python_tag|>", ""),
    Form(
        "python-tag-call", "llama", re.compile(rf"<\|python_tag\|>\s*(?={NAME}\()"), read_builtin,
    ),
    _named(
        "function-tag", "llama", r"<function=(?=[^>\n]+>\s*(?:\{|\Z))", r"(?P<name>[^>\n]+)>(?=\s*\{)",
        r"\s*(?:</function>|<function>)?",
    ),
    Form("pythonic", "llama", re.compile(rf"\A\s*\[(?=\s*{NAME}\()"), partial(read_python, until="]"), bare=True),
    Form(
        "python-start", "llama", re.compile(r"<\|python_start\|>\s*\["),
        partial(read_python, until="]", closing="<|python_end|>"), tags=("<|python_start|>", "<|python_end|>"),
    ),
    Form(
        "lfm2", "lfm2", re.compile(r"<\|tool_call_start\|>\s*\["),
        partial(read_python, until="]", closing="<|tool_call_end|>"), tags=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    Form(
        "lfm2-raw", "lfm2", re.compile(r"<\|tool_call_start\|>\s*\["),
        partial(read_python, until="]", closing="<|tool_call_end|>", raw=True),
        tags=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    Form(
        "olmo3", "olmo", re.compile(rf"<function_calls>(?=\s*{NAME}\()"), partial(read_python, until="</function_calls>"),
        tags=("<function_calls>", "</function_calls>"),
    ),
    Form("mistral", "mistral", re.compile(r"\[TOOL_CALLS\]"), read_mistral, tags=("[TOOL_CALLS]",)),
    _named(
        "deepseek-v3", "deepseek", rf"(?:{CALLS_BEGIN}\s*)?{CALL_BEGIN}(?=\s*\w+\s*{SEP}[^\n]+\n+```)",
        rf"\s*\w+\s*{SEP}(?P<name>[^\s`]+)\s*```(?:json)?(?=\s*\{{)",
        rf"\s*```\s*(?:{CALL_END})?(?:\s*{CALLS_END})?", rf"\s*{CALL_BEGIN}",
        tags=_DEEPSEEK_TAGS,
    ),
    _named(
        "deepseek-v3.1", "deepseek", rf"(?:{CALLS_BEGIN}\s*)?{CALL_BEGIN}(?=[^<]+{SEP}\s*\{{)",
        rf"\s*(?P<name>[^\s<]+)\s*{SEP}", rf"\s*(?:{CALL_END})?(?:\s*{CALLS_END})?", rf"\s*{CALL_BEGIN}",
        tags=_DEEPSEEK_TAGS,
    ),
    Form("step3", "step", re.compile(rf"{CALLS_BEGIN}(?=\s*{CALL_BEGIN}[^<]*{SEP}\s*<steptml:invoke)"), read_invokes),
    Form("invoke", "invoke", INVOKES, read_invokes),
    _named(
        "kimi-k2", "kimi", r"(?:<\|tool_calls?_section_begin\|>\s*)?<\|tool_call_begin\|>",
        r"\s*(?:functions\.)?(?P<name>[^\s<]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>",
        r"\s*(?:<\|tool_call_end\|>)?(?:\s*<\|tool_calls?_section_end\|>)?", r"\s*<\|tool_call_begin\|>",
        tags=("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>"),
    ),
    Form(
        "seed", "seed", re.compile(r"<seed:tool_call>\s*<function=(?P<name>[^>\n]+)>"),
        partial(read_function_xml, lines=False), tags=("<seed:tool_call>", "</seed:tool_call>"),
    ),
    Form(
        "gemma4", "gemma", re.compile(r"<\|tool_call>\s*call:(?P<name>[^\s{]+)\s*\{"),
        partial(read_gemma, delimiter='<|"|>', closing="<tool_call|>"), tags=("<|tool_call>", "<tool_call|>"),
    ),
    Form(
        "functiongemma", "gemma", re.compile(r"<start_function_call>\s*call:(?P<name>[^\s{]+)\s*\{"),
        partial(read_gemma, delimiter="<escape>", closing="<end_function_call>"),
        tags=("<start_function_call>", "<end_function_call>"),
    ),
    Form("tool-code", "gemma", re.compile(r"```tool_code[ \t]*\n"), read_tool_code),
    _tagged("tool-calls", "tool-calls", "<tool_calls>", "</tool_calls>"),  # MiniMax M1, Hunyuan, Jamba
    _tagged("phi4-granite", "granite", "<|tool_call|>", "<|/tool_call|>"),
    _tagged("granite-function", "granite", "<function_call>", "</function_call>"),
    Form("functools", "phi", re.compile(r"functools(?=\s*\[\s*\{)"), partial(read_json, closing="")),
    Form(
        "internlm", "internlm", re.compile(r"<\|action_start\|>\s*<\|plugin\|>"),
        partial(read_json, closing=r"<\|action_end\|>"),
        tags=("<|action_start|>", "<|plugin|>", "<|action_end|>"),
    ),
    _tagged("cohere", "cohere", "<|START_ACTION|>", "<|END_ACTION|>"),
    _tagged("nemotron", "nemotron", "<TOOLCALL>", "</TOOLCALL>"),
    _tagged("longcat", "longcat", "<longcat_tool_call>", "</longcat_tool_call>"),
    _tagged("gigachat", "gigachat", "<|function_call|>", ""),
    Form("apertus", "apertus", re.compile(r"<\|tools_prefix\|>"), read_apertus, tags=("<|tools_prefix|>", "<|tools_suffix|>")),
    Form("fenced-json", "xlam", re.compile(r"\A\s*```(?:json)?\s*\n(?=\s*[{\[])"), read_fenced_json, bare=True),
)  # fmt: skip
"""The documented ways to write calls, in the order in which they are tried. docs/replies.md shows each."""
