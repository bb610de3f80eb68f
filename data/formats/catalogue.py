"""All adapters by name: what the families of this folder declare at their ends."""

from __future__ import annotations

from core.errors import UserError, nearest
from data.formats import (
    adp,
    anthropic_messages,
    atif,
    chat_logs,
    claude_code,
    codex_rollout,
    gemini_contents,
    glaive,
    hh_rlhf,
    inspect_log,
    instructions,
    langchain_messages,
    langfuse,
    llama_factory,
    oasst,
    openai_chat,
    openai_logs,
    openhands,
    openhands_sdk,
    otel_genai,
    pi_session,
    preference,
    preference_columns,
    rated_answers,
    react,
    rollouts,
    sharegpt,
    sharegpt_tools,
    swe_agents,
    tau_bench,
    toolace,
    toolalpaca,
    toolbench,
    toucan,
    trajectory,
    trl,
    xlam,
)
from data.formats.adapter import Adapter

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        *trajectory.ADAPTERS,
        *openai_chat.ADAPTERS,
        *openai_logs.ADAPTERS,
        *anthropic_messages.ADAPTERS,
        *claude_code.ADAPTERS,
        *codex_rollout.ADAPTERS,
        *pi_session.ADAPTERS,
        *openhands_sdk.ADAPTERS,
        *inspect_log.ADAPTERS,
        *langchain_messages.ADAPTERS,
        *gemini_contents.ADAPTERS,
        *otel_genai.ADAPTERS,
        *langfuse.ADAPTERS,
        *sharegpt_tools.ADAPTERS,
        *llama_factory.ADAPTERS,
        *glaive.ADAPTERS,
        *xlam.ADAPTERS,
        *toolace.ADAPTERS,
        *toucan.ADAPTERS,
        *chat_logs.ADAPTERS,
        *toolbench.ADAPTERS,
        *toolalpaca.ADAPTERS,
        *react.ADAPTERS,
        *swe_agents.ADAPTERS,
        *tau_bench.ADAPTERS,
        *adp.ADAPTERS,
        *atif.ADAPTERS,
        *openhands.ADAPTERS,
        *rollouts.ADAPTERS,
        *instructions.ADAPTERS,
        *sharegpt.ADAPTERS,
        *trl.ADAPTERS,
        *oasst.ADAPTERS,
        *preference.ADAPTERS,
        *preference_columns.ADAPTERS,
        *hh_rlhf.ADAPTERS,
        *rated_answers.ADAPTERS,
    )
}


def adapter_named(name: str) -> Adapter:
    """The adapter of a name.

    Raises:
        UserError: if there is none, naming the nearest one.
    """
    if name not in ADAPTERS:
        raise UserError(f"there is no adapter {name!r}.{nearest(name, ADAPTERS)} All of them: {', '.join(ADAPTERS)}")
    return ADAPTERS[name]
