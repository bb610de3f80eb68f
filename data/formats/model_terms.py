"""Models that rows name, as far as their makers' terms forbid training a competing model on what they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_NAMES = frozenset(
    {
        *("model", "models", "model_name", "modelname", "model_id", "modelid", "providedmodelname", "generator"),
        *("gen_ai.request.model", "gen_ai.response.model", "llm.model_name", "model_slug"),
    }
)
_BESIDE = frozenset({"arguments", "args", "kwargs", "parameters", "tools", "properties", "content", "text"})
"""What is said and called, and may speak of models."""
_OPEN = re.compile(r"gpt[-_]?(oss|neo|neox|j\b|2\b)|gemma", re.I)
_MAKERS = (
    ("Anthropic", re.compile(r"(?:^|[/.:_-])(claude|anthropic)", re.I)),
    ("OpenAI", re.compile(r"(?:^|[/.:_-])(gpt-?[345]|chatgpt|o[134](?:-|$)|text-davinci|davinci|codex|openai/)", re.I)),
    ("Google", re.compile(r"(?:^|[/.:_-])(gemini|palm|text-bison)", re.I)),
)
_DEEPEST = 12


def maker_of(model: str) -> str | None:
    """Anthropic, OpenAI or Google, where a model of this name is one whose terms forbid it; else null."""
    if _OPEN.search(model):
        return None
    return next((maker for maker, names in _MAKERS if names.search(model)), None)


def models_in(row: Any, depth: int = 0) -> Iterator[str]:
    """The names of models that a row holds beside what was said."""
    if depth > _DEEPEST:
        return
    if isinstance(row, list):
        for item in row:
            yield from models_in(item, depth + 1)
    elif isinstance(row, dict):
        for key, value in row.items():
            name = key.lower()
            if name in _NAMES or (name == "key" and isinstance(value, str) and value in _NAMES):
                held = row.get("value") if name == "key" else value
                yield from (
                    text for text in (held.values() if isinstance(held, dict) else [held]) if isinstance(text, str)
                )
            elif name not in _BESIDE:
                yield from models_in(value, depth + 1)


def why_model_not_commercial(row: Any) -> str | None:
    """Why the models that a row names may not teach a commercial one; null where nothing is known against them."""
    makers = (maker_of(model) for model in models_in(row))
    maker = next((maker for maker in makers if maker is not None), None)
    return None if maker is None else f"not commercial: a model of {maker} answered"
