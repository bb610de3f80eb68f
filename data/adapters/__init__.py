"""Adapters: one small function per dataset or format, from a row to a `Chat`, a `PreferencePair` or a `Skip`.

    from data.adapters import adapt, adapter_named

    for result in adapt(adapter_named("openai_chat"), {"messages": [...]}):
        ...

Rules that every adapter keeps:

* It copies an allow-list of fields, so a row can change neither a template nor an option.
* What a `Chat` or a pair cannot hold is a `Skip` with a short reason without row details, never a guess. With
  `@skip_if_unrepresentable` (data/adapters/parts.py) it is enough to raise `Unrepresentable(reason)`.
* It returns one result, or a list where one row holds several (the paths of a message tree, the pairs of four ranked
  answers). The list is never empty: a row that gives nothing is a `Skip`. Counts are of results.
* It leaves `licence` and `group` null where the row says nothing, and `source` empty, or the row's own name of the part
  it came from ("apigen-80k"). `adapt` writes the adapter's name before it ("smoltalk/apigen-80k") and fills the licence.

* Keys that mean the same in every format (labels, weights, sides of pairs, media, system prompts, licences) are none of its
  business: data/adapters/row_keys.py obeys them. `columns`, `turns` and `turn_keys` declare what it reads, so that the rest can
  be told; `harmless` what it does not read and knows to say nothing.

To add one: write `def my_set_row(row: Row) -> Chat | Skip` in the file of its family, add a line to `ADAPTERS`, and write
tests/samples/my_set.jsonl in the exact published schema with its corner cases (empty answer, system turn, extra columns,
null fields, odd role order, Korean, every optional column filled once). `python tests/golden.py my_set` writes what comes out
of each row into tests/samples/my_set.expected.json and shows it: read it against what the format means before you commit it.
One test runs over all of them. Several datasets of one format are several lines with one function. Then
`python -m data adapters --markdown --out docs/dataset-catalogue.md`.

`matches` is how `--adapter auto` recognises the first rows of a file: it says why they are of this format, or returns null;
`with_columns("a", "b")` is enough for most. Of several that fit, the one that rests on the most columns wins; where two rest
on equally many, `auto` refuses. Give one only where the rows themselves show it: a dataset in a format that many share has
none, and is named by its hub id or by the user; its my_set.expected.json then says what `auto` takes its rows for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from data.adapters.adp import adp_row, holds_adp_items
from data.adapters.anthropic_messages import anthropic_messages_row, holds_anthropic_blocks, holds_anthropic_response
from data.adapters.atif import atif_row
from data.adapters.chat_logs import chat_log_row, nemotron_v1_row, smoltalk_row, ultrachat_200k_row, ultrachat_row
from data.adapters.claude_code import LINE as CLAUDE_CODE_LINE
from data.adapters.claude_code import MESSAGE_KEYS as CLAUDE_CODE_MESSAGE
from data.adapters.claude_code import claude_code_session_row, matches_claude_code
from data.adapters.claude_code import not_read as not_read_of_claude_code
from data.adapters.codex_rollout import LINE as CODEX_LINE
from data.adapters.codex_rollout import PAYLOAD_KEYS, codex_rollout_row, matches_codex
from data.adapters.codex_rollout import not_read as not_read_of_codex
from data.adapters.gemini_contents import CONTENT_KEYS, gemini_contents_row, holds_candidates, holds_gemini_parts
from data.adapters.glaive import glaive_v2_row
from data.adapters.hh_rlhf import hh_rlhf_row, holds_transcripts
from data.adapters.instructions import (
    alpaca_row,
    dolly_row,
    dolphin_row,
    holds_pairs_of_turns,
    human_assistant_row,
    query_response_row,
    s1k_1_1_row,
    s1k_row,
    web_instruct_row,
)
from data.adapters.langchain_messages import (
    MESSAGE_KEYS,
    holds_langchain_messages,
    holds_langgraph_state,
    langchain_messages_row,
)
from data.adapters.langfuse import COLUMNS as LANGFUSE_COLUMNS
from data.adapters.langfuse import holds_generation, langfuse_row, langfuse_spans
from data.adapters.llama_factory import holds_typed_parts, llama_factory_v1_row
from data.adapters.oasst import oasst_all_row, oasst_best_row, oasst_pairs_row
from data.adapters.openai_chat import holds_openai_calls, openai_chat_row
from data.adapters.openai_logs import (
    holds_called_items,
    holds_response,
    holds_response_items,
    openai_request_response_row,
    openai_responses_row,
)
from data.adapters.openhands import EVENT_KEYS, holds_openhands_events, openhands_messages_row, openhands_row
from data.adapters.otel_genai import COLUMNS as OTEL_COLUMNS
from data.adapters.otel_genai import holds_genai, otel_genai_row, otel_spans
from data.adapters.parts import Fit, Row, Run, Unrepresentable, first_fit, with_columns, with_content, with_reasoning
from data.adapters.pi_session import LINE as PI_LINE
from data.adapters.pi_session import MESSAGE_KEYS as PI_MESSAGE
from data.adapters.pi_session import matches_pi, pi_session_row
from data.adapters.pi_session import not_read as not_read_of_pi
from data.adapters.preference import (
    SAME,
    code_preference_pairs_row,
    holds_trl_sides,
    openai_preference_row,
    preference_with_source_row,
    sharegpt_preference_row,
    trl_preference_row,
    ultrafeedback_binarized_cleaned_row,
    ultrafeedback_binarized_row,
)
from data.adapters.preference_columns import COLUMNS as PREFERENCE_COLUMNS
from data.adapters.preference_columns import TURN_COLUMNS as PREFERENCE_TURNS
from data.adapters.preference_columns import matches_pairs, preference_columns_row
from data.adapters.rated_answers import (
    chatbot_arena_conversations_row,
    helpsteer2_preference_row,
    helpsteer3_preference_row,
    shp_row,
    ultrafeedback_row,
)
from data.adapters.react import agent_instruct_row, holds_agent_instruct_id, holds_react_action, react_row
from data.adapters.row_keys import (
    NO_RULES,
    WEIGHT_KEYS,
    KeyCounts,
    KeyRules,
    Reader,
    Undecided,
    in_usual_spelling,
    look_at_row,
    undecided_message,
    without_ignored_weights,
)
from data.adapters.sharegpt import (
    matches_sharegpt,
    sharegpt_row,
    sharegpt_row_with_dataset,
    sharegpt_row_with_source,
)
from data.adapters.sharegpt_tools import holds_sharegpt_calls, sharegpt_tools_row
from data.adapters.swe_agents import (
    holds_swe_agent_history,
    holds_swe_smith_run,
    nebius_swe_agent_row,
    swe_agent_row,
    swe_smith_row,
)
from data.adapters.tau_bench import tau2_bench_row, tau2_bench_runs, tau_bench_row, tau_bench_runs
from data.adapters.toolace import holds_toolace_prompt, toolace_row
from data.adapters.toolalpaca import toolalpaca_row
from data.adapters.toolbench import holds_toolbench_action, toolbench_answers_row, toolbench_row
from data.adapters.toucan import toucan_row
from data.adapters.traces import Spans, rows_by_conversation, without_beginnings
from data.adapters.trajectory import chat_row, pair_row, trajectory_row
from data.adapters.trl import trl_prompt_completion_row
from data.adapters.turns import TURN_KEYS, holds_function_calls
from data.adapters.xlam import xlam_function_calling_row
from data.chats import Chat, PreferencePair, Skip
from data.errors import UserError, nearest
from data.inputs import Chunk, Input, find_input, neighbours, whole_files
from data.records import BadLine

Result = Chat | PreferencePair | Skip


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One dataset or format: what its rows are, where they come from, and the function that reads one."""

    name: str
    kind: Literal["chat", "pair", "trajectory"]
    """What a row is. A trajectory becomes a chat; which outcomes are imitated is chosen where it is read."""
    function: Callable[[Row], Result | Sequence[Result]]
    columns: tuple[str, ...]
    """Columns that are read. Of all others, data/adapters/row_keys.py knows those that change what a row means, and the rest
    is counted as not read."""
    turns: tuple[str, ...] = ()
    """Columns that hold turns: one object, a list of them, or the JSON text of one."""
    turn_keys: frozenset[str] = frozenset()
    """Keys of a turn that are read."""
    harmless: frozenset[str] = frozenset()
    """Columns that are not read and change nothing here, though their names mean something in other files."""
    any_spelling: bool = False
    """Its columns are read in any spelling: `rejectedResponse`, `Rejected Response`."""
    reads_all: bool = False
    """Its function decides over every key by itself: formats of ours, which refuse an unknown one, and functions of a user."""
    called: str | None = None
    """What rows are called that name no source themselves; null takes the name of the adapter."""
    runs: Callable[[Row], Sequence[Run | Skip]] | None = None
    """For a format that tells which calls failed: a row as runs, whatever their outcome. KPIs are measured on these."""
    hub_id: str | None = None
    """Dataset on the Hugging Face Hub, or null for a format that many files share."""
    licence: str | None = None
    """Licence of that dataset as its publisher writes it; null where none is stated, or each file has its own."""
    gated: bool = False
    """Its terms have to be accepted on the hub before it can be read."""
    non_commercial: bool = False
    openai_derived: bool = False
    """Answers were written by a model of OpenAI, whose terms forbid training competing models on them."""
    matches: Callable[[Sequence[Row]], Fit | None] | None = None
    """Whether the first rows of a file are of this format, and why. Must bear rows of any other format."""
    group_by: str | None = None
    """Column of flat rows of which one thing is many rows (the messages of a tree): neighbouring rows with an equal value
    reach `function` together, as `{"rows": [...]}`."""
    whole_file: bool = False
    """Whether a file is one thing of which each line is a part, such as the log of a session: all its rows reach `function`
    together, as `{"rows": [...], "holes": [...]}` (`data.inputs.whole_files`)."""
    is_log: bool = False
    """Whether rows are logs of somebody's own machine, in which secrets become placeholders as they are read."""
    not_read: Callable[[Row], str | None] | None = None
    """What a row of such a file is called that is no part of what is read, or null; it is counted under that name."""
    spans: Spans | None = None
    """For a trace format: a row as the spans that it holds, which reach `function` one by one. Spans of one conversation are
    read together, wherever they stand (data/adapters/traces.py)."""
    schema: Literal["real rows", "public pages", "recalled"] = "recalled"
    """How the columns are known: seen in real rows, read on public pages, or recalled and not yet settled."""
    note: str = ""
    """What a user should know before using it: what is left out by what rule, or why something cannot be read."""

    @property
    def joins_rows(self) -> bool:
        """Whether `function` takes many rows at once."""
        return self.group_by is not None or self.whole_file

    @property
    def is_dataset(self) -> bool:
        """Whether it is one published dataset and not a format that anybody's files may have."""
        return self.hub_id is not None or self.openai_derived

    def of_unknown_origin(self, called: str) -> Adapter:
        """The same layout in a file that may be anybody's: columns give neither a name nor a licence."""
        return replace(
            self,
            hub_id=None,
            licence=None,
            gated=False,
            non_commercial=False,
            openai_derived=False,
            called=called,
        )

    @cached_property
    def reader(self) -> Reader:
        """What is known of its rows."""
        return Reader(
            columns=frozenset((*self.columns, "id")),
            turns=self.turns,
            turn_keys=self.turn_keys,
            harmless=self.harmless,
            is_own=not self.is_dataset,
            is_pair=self.kind == "pair",
        )


_OASST_COLUMNS = (
    "message_tree_id", "message_id", "parent_id", "text", "role", "rank", "lang", "deleted", "review_result", "prompt",
)  # fmt: skip

SWE_AGENT_TURN = frozenset({
    "role", "content", "tool_calls", "function_call", "function_calls", "tool_call_id", "tool_call_ids", "reasoning_content",
    "thinking_blocks", "is_demo",
})  # fmt: skip
TAU_BENCH_TURN = frozenset({
    "role", "content", "tool_calls", "tool_messages", "tool_call_id", "id", "name", "error", "requestor", "timestamp",
})  # fmt: skip
ADP_ITEM = frozenset({
    "class_", "content", "description", "function", "kwargs", "language", "reasoning_content", "source", "tool_call_id",
    "axtree", "html", "url",
})  # fmt: skip
ATIF_STEP = frozenset({
    "source", "message", "reasoning_content", "tool_calls", "observation", "is_copied_context", "llm_call_count", "extra",
})  # fmt: skip

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        # --- formats of this project ---
        Adapter(
            name="trajectory",
            kind="trajectory",
            function=trajectory_row,
            reads_all=True,
            columns=("the public schema, see `python -m data schema`",),
            matches=with_columns("category", "action_sequence", "outcome"),
            schema="real rows",
        ),
        Adapter(
            name="chats",
            kind="chat",
            function=chat_row,
            reads_all=True,
            columns=("a Chat, as `convert` writes it",),
            matches=with_columns("messages", "tools", "id", "source", "licence", "group"),
            schema="real rows",
        ),
        Adapter(
            name="pairs",
            kind="pair",
            function=pair_row,
            reads_all=True,
            columns=("a PreferencePair, as `convert` and `pairs` write it",),
            matches=with_columns("prompt", "chosen", "rejected", "id", "source", "margin", "trunk"),
            schema="real rows",
        ),
        # --- tools and trajectories ---
        Adapter(
            name="openai_chat",
            kind="chat",
            function=openai_chat_row,
            columns=("messages", "tools", "functions", "id"),
            matches=with_content("messages", holds=holds_openai_calls, what="calls in OpenAI's style"),
            turns=("messages",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Chat fine-tuning files of OpenAI, with tool_calls or the older function_call.",
        ),
        Adapter(
            name="openai_request_response",
            kind="chat",
            function=openai_request_response_row,
            columns=("request", "response", "id"),
            matches=with_content("request", "response", holds=holds_response, what="choices or items in the response"),
            schema="recalled",
            note="Logs of chat completions and Responses. Every choice is a chat. The log of every request of one conversation "
            "holds its beginning many times.",
        ),
        Adapter(
            name="openai_responses",
            kind="chat",
            function=openai_responses_row,
            columns=(
                "instructions",
                "input",
                "output",
                "tools",
                "status",
                "error",
                "previous_response_id",
                "conversation",
                "id",
            ),
            matches=first_fit(
                with_content("input", "output", holds=holds_response_items, what="items of OpenAI's Responses"),
                with_content("input", holds=holds_called_items, what="items of OpenAI's Responses"),
            ),
            schema="recalled",
            note="Stored responses with their input. Reasoning is the text, or the summary where that is all that is shown.",
        ),
        Adapter(
            name="anthropic_messages",
            kind="chat",
            function=anthropic_messages_row,
            columns=("system", "messages", "tools", "request", "response", "id"),
            matches=first_fit(
                with_content("messages", holds=holds_anthropic_blocks, what="Anthropic's blocks"),
                with_content("request", "response", holds=holds_anthropic_response, what="answers of Anthropic's API"),
            ),
            turns=("messages",),
            turn_keys=frozenset({"role", "content", "tool_calls", "function_call", *WEIGHT_KEYS}),
            schema="recalled",
            note="Requests of the Messages API. The log of every request of one conversation holds its beginning many times.",
        ),
        Adapter(
            name="claude_code_session",
            kind="chat",
            function=claude_code_session_row,
            columns=CLAUDE_CODE_LINE,
            matches=matches_claude_code,
            turns=("message",),
            turn_keys=CLAUDE_CODE_MESSAGE,
            whole_file=True,
            is_log=True,
            not_read=not_read_of_claude_code,
            schema="public pages",
            note="Logs of Claude Code; a file is one session. Sub-agents, what follows a compaction and what was asked anew "
            "are chats of their own. They hold no tool definitions. Anthropic's terms apply to the answers.",
        ),
        Adapter(
            name="codex_rollout",
            kind="chat",
            function=codex_rollout_row,
            columns=CODEX_LINE,
            matches=matches_codex,
            turns=("payload",),
            turn_keys=PAYLOAD_KEYS,
            whole_file=True,
            is_log=True,
            not_read=not_read_of_codex,
            schema="public pages",
            note="Rollouts of Codex; a file is one session, and what follows a compaction a chat of its own. Calls whose input "
            "is text become {input}. They hold no tool definitions. OpenAI's terms apply to the answers.",
        ),
        Adapter(
            name="pi_session",
            kind="chat",
            function=pi_session_row,
            columns=PI_LINE,
            matches=matches_pi,
            turns=("message",),
            turn_keys=PI_MESSAGE,
            whole_file=True,
            is_log=True,
            not_read=not_read_of_pi,
            schema="public pages",
            note="Sessions of Pi; a file is one session. What follows a compaction and what was asked anew are chats of their "
            "own. They hold no tool definitions. The terms of the model's maker apply to the answers.",
        ),
        Adapter(
            name="langchain_messages",
            kind="chat",
            function=langchain_messages_row,
            columns=("messages", "values", "tools", "id", "thread_id"),
            matches=first_fit(
                with_content("messages", holds=holds_langchain_messages, what="types of LangChain"),
                with_content("values", holds=holds_langgraph_state, what="messages with types of LangChain"),
            ),
            turns=("messages",),
            turn_keys=MESSAGE_KEYS,
            schema="recalled",
            note="Dumps of LangChain and states of LangGraph. They hold no tools unless a column has them.",
        ),
        Adapter(
            name="gemini_contents",
            kind="chat",
            function=gemini_contents_row,
            columns=("systemInstruction", "system_instruction", "contents", "tools", "request", "response", "id"),
            matches=first_fit(
                with_content("contents", holds=holds_gemini_parts, what="contents of parts"),
                with_content("request", "response", holds=holds_candidates, what="candidates in the response"),
            ),
            turns=("contents",),
            turn_keys=CONTENT_KEYS,
            schema="recalled",
            note="Requests of the Gemini API, and files to tune its models. Results become their JSON text.",
        ),
        Adapter(
            name="otel_genai",
            kind="chat",
            function=otel_genai_row,
            columns=OTEL_COLUMNS,
            spans=otel_spans,
            matches=first_fit(
                with_content("attributes", holds=holds_genai, what="messages of gen_ai"),
                with_content("resourceSpans", holds=holds_genai, what="messages of gen_ai"),
                with_content("resource_spans", holds=holds_genai, what="messages of gen_ai"),
                with_content("events", holds=holds_genai, what="messages of gen_ai"),
            ),
            schema="public pages",
            note="Spans, one a line or as OTLP exports; OpenLLMetry's and OpenInference's attributes, too. Those of one "
            "conversation are read together: one that another goes on with is left out.",
        ),
        Adapter(
            name="langfuse",
            kind="chat",
            function=langfuse_row,
            columns=LANGFUSE_COLUMNS,
            spans=langfuse_spans,
            matches=first_fit(
                with_content("traceId", "type", "input", "output", holds=holds_generation, what="types of Langfuse"),
                with_content("trace_id", "type", "input", "output", holds=holds_generation, what="types of Langfuse"),
                with_content("observations", holds=holds_generation, what="types of Langfuse"),
            ),
            schema="public pages",
            note="Exports of observations or traces. Only GENERATION is a request to a model. Those of one session are read "
            "together: one that another goes on with is left out.",
        ),
        Adapter(
            name="sharegpt_tools",
            kind="chat",
            function=sharegpt_tools_row,
            columns=("conversations", "tools", "system", "id"),
            matches=with_content("conversations", holds=holds_sharegpt_calls, what="calls in turns or <tool_call>"),
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="real rows",
            note="LLaMA-Factory's function_call and observation turns, and Hermes' <tool_call> and <tool_response>.",
        ),
        Adapter(
            name="llama_factory_v1",
            kind="chat",
            function=llama_factory_v1_row,
            columns=("messages", "tools", "id"),
            matches=with_content("messages", "tools", holds=holds_typed_parts, what="parts with type and value"),
            turns=("messages",),
            turn_keys=frozenset({"role", "content", *WEIGHT_KEYS}),
            schema="real rows",
            note="Messages of typed parts: text, reasoning, tool_call.",
        ),
        Adapter(
            name="hermes_function_calling_v1",
            kind="chat",
            function=sharegpt_tools_row,
            columns=("conversations", "tools", "system", "id"),
            hub_id="NousResearch/hermes-function-calling-v1",
            licence="apache-2.0",
            matches=with_columns("conversations", "category", "subcategory", "task"),
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="The published system prompt only tells the tools and is dropped; one with rules beside them is kept whole.",
        ),
        Adapter(
            name="glaive_function_calling_v2",
            kind="chat",
            function=glaive_v2_row,
            columns=("system", "chat"),
            hub_id="glaiveai/glaive-function-calling-v2",
            licence="apache-2.0",
            matches=with_columns("system", "chat"),
            schema="public pages",
            note="Transcripts as text; rows in which a role's name stands inside a text are left out.",
        ),
        Adapter(
            name="xlam_function_calling_60k",
            kind="chat",
            function=xlam_function_calling_row,
            columns=("query", "answers", "tools", "id"),
            hub_id="Salesforce/xlam-function-calling-60k",
            licence="cc-by-4.0",
            gated=True,
            matches=with_columns("query", "answers", "tools"),
            turns=("query",),
            turn_keys=frozenset({"role", "content"}),
            schema="public pages",
            note="No results were recorded: a chat ends with its calls. Hammer's test files are read too.",
        ),
        Adapter(
            name="apigen_mt_5k",
            kind="chat",
            function=sharegpt_tools_row,
            columns=("conversations", "tools", "system"),
            hub_id="Salesforce/APIGen-MT-5k",
            licence="cc-by-nc-4.0",
            gated=True,
            non_commercial=True,
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Written by GPT-4o and DeepSeek-V3. In the layout of sharegpt_tools.",
        ),
        Adapter(
            name="toolace",
            kind="chat",
            function=toolace_row,
            columns=("system", "conversations"),
            hub_id="Team-ACE/ToolACE",
            licence="apache-2.0",
            matches=with_content(
                "system", "conversations", holds=holds_toolace_prompt, what="ToolACE's list of functions"
            ),
            turns=("conversations",),
            turn_keys=frozenset({"from", "value"}),
            schema="public pages",
            note="Calls in brackets become calls. The published prompt only tells the tools and is dropped.",
        ),
        Adapter(
            name="toucan_1_5m",
            kind="chat",
            function=toucan_row,
            columns=("messages", "available_tools", "tools", "subset_name", "uuid"),
            hub_id="Agent-Ark/Toucan-1.5M",
            licence="apache-2.0",
            matches=with_columns("uuid", "subset_name", "messages", "target_tools"),
            turns=("messages",),
            turn_keys=frozenset({"role", "content", "function_call", "reasoning_content", "name"}),
            schema="real rows",
            note="Turns that were cut into words, calls and results are joined again. Columns of the SFT part are recalled.",
        ),
        Adapter(
            name="dolci_tool_use",
            kind="chat",
            function=smoltalk_row,
            columns=("messages", "tools", "source", "id"),
            hub_id="allenai/Dolci-Instruct-SFT-Tool-Use",
            licence="odc-by",
            matches=with_content("messages", "source", holds=holds_function_calls, what="function_calls"),
            turns=("messages",),
            turn_keys=TURN_KEYS,
            schema="recalled",
            note="Calls in Python, read and never run. One result for several calls says not whose it is and is left out.",
        ),
        Adapter(
            name="nemotron_post_training_v1",
            kind="chat",
            function=nemotron_v1_row,
            columns=("messages", "metadata", "category", "uuid"),
            hub_id="nvidia/Nemotron-Post-Training-Dataset-v1",
            licence="cc-by-4.0",
            matches=with_columns("uuid", "category", "messages", "metadata", "reasoning"),
            turns=("messages",),
            turn_keys=TURN_KEYS,
            schema="recalled",
            note="Choose the split (tool_calling, chat, code, math, stem). Tools are taken from the column metadata.",
        ),
        Adapter(
            name="toolbench",
            kind="trajectory",
            function=toolbench_row,
            columns=("conversations", "id"),
            licence="apache-2.0",
            openai_derived=True,
            matches=with_content(
                "conversations", holds=holds_toolbench_action, what="Action Input in an assistant turn"
            ),
            turns=("conversations",),
            turn_keys=frozenset({"from", "value"}),
            schema="public pages",
            note="toolllama_*.json of OpenBMB/ToolBench. One row a step: only the last turn is learned.",
        ),
        Adapter(
            name="toolbench_answers",
            kind="trajectory",
            function=toolbench_answers_row,
            columns=("answer_generation", "win"),
            licence="apache-2.0",
            openai_derived=True,
            matches=with_columns("answer_generation", "win", "tree"),
            schema="real rows",
            note="Raw answers of ToolBench's tree search: the whole path it ended with, where it won.",
        ),
        Adapter(
            name="toolalpaca",
            kind="chat",
            function=toolalpaca_row,
            columns=("Function_Description", "Instances", "Instructions", "Golden_Answers", "Name"),
            licence="apache-2.0",
            openai_derived=True,
            matches=with_columns("Function_Description", "NLDocumentation", "Instructions"),
            turns=("Instances",),
            turn_keys=frozenset({"input", "output", "intermediate_steps", "Final Thought"}),
            schema="real rows",
            note="tangqiaoyu/ToolAlpaca on GitHub: one row an API. Several golden calls without results are left out.",
        ),
        Adapter(
            name="react",
            kind="trajectory",
            function=react_row,
            columns=("messages", "id"),
            matches=with_content("messages", holds=holds_react_action, what="Action: name[input]"),
            turns=("messages",),
            turn_keys=frozenset({"role", "content"}),
            schema="real rows",
            note="ReAct text as FireAct's files have it (MIT, written by GPT-4). Episodes without reward are left out.",
        ),
        Adapter(
            name="agent_instruct",
            kind="chat",
            function=agent_instruct_row,
            columns=("conversations", "id"),
            hub_id="zai-org/AgentInstruct",
            openai_derived=True,
            matches=with_content("conversations", "id", holds=holds_agent_instruct_id, what="an environment in the id"),
            turns=("conversations",),
            turn_keys=frozenset({"from", "value", "role", "content", *WEIGHT_KEYS}),
            schema="real rows",
            note="Written by GPT-4. Actions of the six environments become calls of tools that the adapter defines.",
        ),
        Adapter(
            name="swe_agent",
            kind="trajectory",
            function=swe_agent_row,
            columns=("history", "info", "instance_id", "environment_id"),
            matches=with_content("history", holds=holds_swe_agent_history, what="messages with roles in history"),
            turns=("history",),
            turn_keys=SWE_AGENT_TURN,
            schema="real rows",
            note="SWE-agent's .traj files. Runs that were not submitted are left out.",
        ),
        Adapter(
            name="nebius_swe_agent",
            kind="trajectory",
            function=nebius_swe_agent_row,
            columns=("trajectory", "target", "instance_id"),
            hub_id="nebius/SWE-agent-trajectories",
            licence="cc-by-4.0",
            matches=with_columns("trajectory", "target", "instance_id", "generated_patch"),
            turns=("trajectory",),
            turn_keys=frozenset({"role", "text", "system_prompt"}),
            schema="real rows",
            note="Runs that did not resolve their issue (target false) are left out.",
        ),
        Adapter(
            name="swe_smith",
            kind="trajectory",
            function=swe_smith_row,
            columns=("messages", "resolved", "instance_id", "traj_id"),
            hub_id="SWE-bench/SWE-smith-trajectories",
            licence="mit",
            openai_derived=True,
            matches=with_content(
                "messages", "instance_id", holds=holds_swe_smith_run, what="observations of SWE-agent"
            ),
            turns=("messages",),
            turn_keys=SWE_AGENT_TURN,
            schema="real rows",
            note="Splits tool, xml and ticks. Column model names the writer: Claude, in a part of the rows GPT-4o.",
        ),
        Adapter(
            name="tau_bench",
            kind="trajectory",
            function=tau_bench_row,
            runs=tau_bench_runs,
            columns=("traj", "reward", "task_id", "trial"),
            licence="mit",
            openai_derived=True,
            matches=with_columns("task_id", "reward", "traj", "trial"),
            turns=("traj",),
            turn_keys=TAU_BENCH_TURN,
            schema="real rows",
            note="historical_trajectories of sierra-research/tau-bench (GPT-4o among them). Reward below 1 is a failure.",
        ),
        Adapter(
            name="tau2_bench",
            kind="trajectory",
            function=tau2_bench_row,
            runs=tau2_bench_runs,
            columns=("simulations", "info", "messages", "reward_info", "task_id", "id"),
            openai_derived=True,
            matches=with_columns("simulations", "tasks", "info"),
            turns=("simulations",),
            turn_keys=frozenset({"id", "task_id", "trial", "messages", "reward_info"}),
            schema="public pages",
            note="Results files of sierra-research/tau2-bench (GPT-4.1 and o4-mini among them). A user's calls are left out.",
        ),
        Adapter(
            name="adp",
            kind="chat",
            function=adp_row,
            columns=("content", "id"),
            matches=with_content("id", "content", holds=holds_adp_items, what="items with class_"),
            turns=("content",),
            turn_keys=ADP_ITEM,
            schema="real rows",
            note="Agent Data Protocol, standardised records (schema 1.x). They hold no tool definitions.",
        ),
        Adapter(
            name="atif",
            kind="trajectory",
            function=atif_row,
            columns=(
                "schema_version",
                "steps",
                "agent",
                "session_id",
                "trajectory_id",
                "subagent_trajectories",
                "extra",
            ),
            matches=with_columns("schema_version", "steps", "agent"),
            turns=("steps",),
            turn_keys=ATIF_STEP,
            schema="public pages",
            note="Agent Trajectory Interchange Format 1.x. Copied steps are context only. `data export` writes it.",
        ),
        Adapter(
            name="openhands",
            kind="trajectory",
            function=openhands_row,
            columns=(
                "trajectory",
                "history",
                "feedback",
                "polarity",
                "resolved",
                "test_result",
                "report",
                "instance_id",
            ),
            matches=with_content(holds=holds_openhands_events, what="events with source and action"),
            turns=("history", "trajectory"),
            turn_keys=EVENT_KEYS,
            schema="real rows",
            note="Event streams: shared feedback and evaluation outputs. Negative feedback and unresolved runs are left out.",
        ),
        Adapter(
            name="swe_rebench_openhands",
            kind="trajectory",
            function=openhands_messages_row,
            columns=(
                "trajectory",
                "messages",
                "tools",
                "resolved",
                "test_result",
                "report",
                "instance_id",
                "trajectory_id",
                "run_id",
            ),
            hub_id="nebius/SWE-rebench-openhands-trajectories",
            licence="cc-by-4.0",
            matches=with_columns("trajectory_id", "instance_id", "trajectory", "tools", "resolved"),
            turns=("trajectory", "messages"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Runs that did not resolve their issue are left out.",
        ),
        Adapter(
            name="swe_gym_openhands",
            kind="trajectory",
            function=openhands_messages_row,
            columns=(
                "messages",
                "trajectory",
                "tools",
                "resolved",
                "test_result",
                "report",
                "feedback",
                "polarity",
                "instance_id",
                "trajectory_id",
                "run_id",
            ),
            hub_id="SWE-Gym/OpenHands-Sampled-Trajectories",
            openai_derived=True,
            matches=with_columns("instance_id", "run_id", "resolved", "messages", "tools"),
            turns=("messages", "trajectory"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Runs that did not resolve their issue are left out. Sampled from GPT-4o and Claude.",
        ),
        # --- chats to imitate ---
        Adapter(
            name="alpaca",
            kind="chat",
            function=alpaca_row,
            columns=("instruction", "input", "output", "system", "history", "id"),
            matches=with_columns("instruction", "output"),
            schema="public pages",
            note="Also LLaMA-Factory's system and history. Input follows the instruction after an empty line.",
        ),
        Adapter(
            name="query_response",
            kind="chat",
            function=query_response_row,
            columns=("query", "response", "system", "history", "tools", "id"),
            matches=with_columns("query", "response"),
            schema="public pages",
            note="ms-swift's query and response, with history as a list of pairs.",
        ),
        Adapter(
            name="human_assistant",
            kind="chat",
            function=human_assistant_row,
            columns=("conversation", "system", "tools", "id"),
            matches=with_content("conversation", holds=holds_pairs_of_turns, what="pairs of human and assistant"),
            turns=("conversation",),
            turn_keys=frozenset({"human", "assistant"}),
            schema="public pages",
            note="ms-swift's pairs of turns.",
        ),
        Adapter(
            name="sharegpt",
            kind="chat",
            function=sharegpt_row,
            columns=("conversations", "system", "system_prompt", "tools", "id"),
            matches=matches_sharegpt,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="real rows",
            note="Plain turns fast; a conversation with tools or calls is passed to sharegpt_tools.",
        ),
        Adapter(
            name="trl_messages",
            kind="chat",
            function=openai_chat_row,
            columns=("messages", "tools", "functions", "id"),
            matches=with_columns("messages"),
            turns=("messages",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="TRL's conversational rows, read like openai_chat; answers with a bad label (KTO) are left out.",
        ),
        Adapter(
            name="trl_prompt_completion",
            kind="chat",
            function=trl_prompt_completion_row,
            columns=("prompt", "completion", "tools", "id"),
            matches=with_columns("prompt", "completion"),
            turns=("prompt", "completion"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Messages or plain texts. Only the completion is trained, as in TRL; answers with a bad label are left out.",
        ),
        Adapter(
            name="infinity_instruct",
            kind="chat",
            function=sharegpt_row_with_source,
            columns=("conversations", "id", "source", "system", "system_prompt", "tools"),
            hub_id="BAAI/Infinity-Instruct",
            licence="cc-by-sa-4.0",
            gated=True,
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            harmless=frozenset({"label"}),
            schema="recalled",
            note="Choose a subset (3M, 7M, 0625, Gen, 7M_domains). Label and langdetect are not read.",
        ),
        Adapter(
            name="web_instruct_sub",
            kind="chat",
            function=web_instruct_row,
            columns=("question", "answer", "source", "index"),
            hub_id="TIGER-Lab/WebInstructSub",
            licence="apache-2.0",
            matches=with_columns("question", "answer", "orig_question", "orig_answer"),
            schema="recalled",
            note="question, answer and source were read in public loaders, the rest is recalled.",
        ),
        Adapter(
            name="the_tome",
            kind="chat",
            function=sharegpt_row_with_dataset,
            columns=("conversations", "id", "dataset", "system", "system_prompt", "tools"),
            hub_id="arcee-ai/The-Tome",
            licence="mit",
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="recalled",
            note="A mixture. Calls in it that are written as text are left out: use glaive_function_calling_v2.",
        ),
        Adapter(
            name="open_perfectblend",
            kind="chat",
            function=sharegpt_row_with_source,
            columns=("conversations", "source", "system", "system_prompt", "tools"),
            hub_id="mlabonne/open-perfectblend",
            licence="apache-2.0",
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="recalled",
            note="A mixture; each part keeps its own terms.",
        ),
        Adapter(
            name="smoltalk",
            kind="chat",
            function=smoltalk_row,
            columns=("messages", "source", "tools", "id"),
            hub_id="HuggingFaceTB/smoltalk",
            licence="apache-2.0 (new parts; public parts keep their own)",
            openai_derived=True,
            turns=("messages",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Choose a subset (all, apigen-80k, ...). The text calls of apigen-80k become calls; its system prompt stays.",
        ),
        Adapter(
            name="openhermes_2_5",
            kind="chat",
            function=sharegpt_row_with_source,
            columns=("conversations", "id", "source", "system", "system_prompt", "tools"),
            hub_id="teknium/OpenHermes-2.5",
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="The card states no licence. weight of a turn is kept where it is not null.",
        ),
        Adapter(
            name="slim_orca",
            kind="chat",
            function=sharegpt_row,
            columns=("conversations", "system", "system_prompt", "tools"),
            hub_id="Open-Orca/SlimOrca",
            licence="mit",
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="weight of a turn is kept. Answers by GPT-4.",
        ),
        Adapter(
            name="dolphin",
            kind="chat",
            function=dolphin_row,
            columns=("instruction", "input", "output"),
            hub_id="QuixiAI/dolphin",
            licence="apache-2.0",
            openai_derived=True,
            schema="recalled",
            note="Alpaca's columns mean other things here (instruction is the system prompt), so auto errs: name dolphin.",
        ),
        Adapter(
            name="wildchat_1m",
            kind="chat",
            function=chat_log_row,
            columns=("conversation", "conversation_hash", "model"),
            hub_id="allenai/WildChat-1M",
            licence="odc-by",
            openai_derived=True,
            matches=with_columns("conversation", "conversation_hash", "model"),
            turns=("conversation",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Answers by GPT-3.5 and GPT-4; source names the model. Redacted and toxic rows are kept: filter them.",
        ),
        Adapter(
            name="lmsys_chat_1m",
            kind="chat",
            function=chat_log_row,
            columns=("conversation", "conversation_id", "conversation_hash", "model"),
            hub_id="lmsys/lmsys-chat-1m",
            licence="LMSYS-Chat-1M Dataset License Agreement",
            gated=True,
            openai_derived=True,
            matches=with_columns("conversation", "conversation_id", "model"),
            turns=("conversation",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Answers by 25 models, some of OpenAI; source names the model, whose terms apply. Unsafe rows are kept.",
        ),
        Adapter(
            name="oasst1",
            kind="chat",
            function=oasst_best_row,
            columns=_OASST_COLUMNS,
            hub_id="OpenAssistant/oasst1",
            licence="apache-2.0",
            matches=with_columns("message_tree_id"),
            group_by="message_tree_id",
            harmless=frozenset({"labels"}),
            schema="real rows",
            note="One chat a tree, its best-ranked path. Reads the hub's rows of messages and the .trees.jsonl.gz files.",
        ),
        Adapter(
            name="oasst1_all",
            kind="chat",
            function=oasst_all_row,
            columns=_OASST_COLUMNS,
            hub_id="OpenAssistant/oasst1",
            licence="apache-2.0",
            matches=with_columns("message_tree_id"),
            group_by="message_tree_id",
            harmless=frozenset({"labels"}),
            schema="real rows",
            note="Every path to a last answer is a chat, so messages above a fork are in several. A tree is one group.",
        ),
        Adapter(
            name="oasst2",
            kind="chat",
            function=oasst_best_row,
            columns=_OASST_COLUMNS,
            hub_id="OpenAssistant/oasst2",
            licence="apache-2.0",
            matches=with_columns("message_tree_id"),
            group_by="message_tree_id",
            harmless=frozenset({"labels"}),
            schema="recalled",
            note="As oasst1.",
        ),
        Adapter(
            name="oasst2_all",
            kind="chat",
            function=oasst_all_row,
            columns=_OASST_COLUMNS,
            hub_id="OpenAssistant/oasst2",
            licence="apache-2.0",
            matches=with_columns("message_tree_id"),
            group_by="message_tree_id",
            harmless=frozenset({"labels"}),
            schema="recalled",
            note="As oasst1_all.",
        ),
        Adapter(
            name="alpaca_52k",
            kind="chat",
            function=alpaca_row,
            columns=("instruction", "input", "output", "system", "history"),
            hub_id="tatsu-lab/alpaca",
            licence="cc-by-nc-4.0",
            non_commercial=True,
            openai_derived=True,
            schema="public pages",
            note="Answers by text-davinci-003. The column text repeats the others and is not read.",
        ),
        Adapter(
            name="dolly_15k",
            kind="chat",
            function=dolly_row,
            columns=("instruction", "context", "response", "category"),
            hub_id="databricks/databricks-dolly-15k",
            licence="cc-by-sa-3.0",
            matches=with_columns("instruction", "context", "response"),
            schema="public pages",
            note="Written by people; source names the category.",
        ),
        Adapter(
            name="sharegpt_vicuna",
            kind="chat",
            function=sharegpt_row,
            columns=("conversations", "id", "system", "system_prompt", "tools"),
            hub_id="anon8231489123/ShareGPT_Vicuna_unfiltered",
            openai_derived=True,
            turns=("conversations",),
            turn_keys=TURN_KEYS,
            schema="real rows",
            note="A copy by users: Vicuna's own files were never published, and no licence is stated.",
        ),
        Adapter(
            name="ultrachat",
            kind="chat",
            function=ultrachat_row,
            columns=("data", "id"),
            hub_id="stingning/ultrachat",
            licence="mit",
            openai_derived=True,
            matches=with_columns("id", "data"),
            schema="recalled",
            note="Both sides by GPT-3.5.",
        ),
        Adapter(
            name="ultrachat_200k",
            kind="chat",
            function=ultrachat_200k_row,
            columns=("messages", "prompt_id"),
            hub_id="HuggingFaceH4/ultrachat_200k",
            licence="mit",
            openai_derived=True,
            matches=with_columns("messages", "prompt", "prompt_id"),
            turns=("messages",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Splits train_sft and test_sft (the _gen splits have no answers).",
        ),
        Adapter(
            name="s1k",
            kind="chat",
            function=s1k_row,
            columns=("question", "thinking_trajectories", "attempt", "source_type"),
            hub_id="simplescaling/s1K",
            licence="apache-2.0",
            matches=with_columns("question", "thinking_trajectories", "attempt"),
            schema="public pages",
            note="The thinking (by Gemini) is kept as reasoning_content. The column solution is the reference and is not read.",
        ),
        Adapter(
            name="s1k_1_1",
            kind="chat",
            function=s1k_1_1_row,
            columns=("question", "deepseek_thinking_trajectory", "deepseek_attempt", "source_type"),
            hub_id="simplescaling/s1K-1.1",
            licence="mit",
            matches=with_columns("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
            schema="public pages",
            note="The thinking (by DeepSeek R1) is kept as reasoning_content.",
        ),
        # --- preferences ---
        Adapter(
            name="trl_preference",
            kind="pair",
            function=trl_preference_row,
            columns=("prompt", "chosen", "rejected", "tools", "id"),
            matches=with_content("chosen", "rejected", holds=holds_trl_sides, what="messages, or texts to a prompt"),
            turns=("prompt", "chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="All four forms of TRL: explicit and implicit prompt, messages and plain texts. No margin.",
        ),
        Adapter(
            name="preference_columns",
            kind="pair",
            function=preference_columns_row,
            columns=PREFERENCE_COLUMNS,
            any_spelling=True,
            turns=PREFERENCE_TURNS,
            turn_keys=TURN_KEYS,
            matches=matches_pairs,
            schema="public pages",
            note="Pairs under other names: ms-swift's messages with rejected_response or rejected_messages, LLaMA-Factory's "
            "instruction and input with chosen and rejected, winner and loser, and so on, in any spelling. Of several rejected "
            "answers in a list each one makes a pair. No margin.",
        ),
        Adapter(
            name="openai_preference",
            kind="pair",
            function=openai_preference_row,
            columns=(
                "input",
                "preferred_output",
                "non_preferred_output",
                "preferred_completion",
                "non_preferred_completion",
                "id",
            ),
            matches=with_columns("input", "preferred_output", "non_preferred_output"),
            turns=("preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="OpenAI's preference fine-tuning. No margin.",
        ),
        Adapter(
            name="sharegpt_preference",
            kind="pair",
            function=sharegpt_preference_row,
            columns=("conversations", "chosen", "rejected", "tools", "system", "id"),
            matches=with_columns("conversations", "chosen", "rejected"),
            turns=("conversations", "chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="real rows",
            note="LLaMA-Factory's ranking format. No margin.",
        ),
        Adapter(
            name="hh_rlhf",
            kind="pair",
            function=hh_rlhf_row,
            columns=("chosen", "rejected"),
            hub_id="Anthropic/hh-rlhf",
            licence="mit",
            matches=with_content(
                "chosen", "rejected", holds=holds_transcripts, what="transcripts of a human and an assistant"
            ),
            schema="real rows",
            note="Markers that somebody typed inside a turn stay text; what cannot be told apart is left out. The folder "
            "red-team-attempts holds no pairs. Offensive text. No margin.",
        ),
        Adapter(
            name="skywork_reward_preference",
            kind="pair",
            function=preference_with_source_row,
            columns=("chosen", "rejected", "prompt", "source"),
            hub_id="Skywork/Skywork-Reward-Preference-80K-v0.2",
            openai_derived=True,
            turns=("chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="The card states no licence; each part keeps its own. v0.1 holds prompts of RewardBench: use v0.2. No margin.",
        ),
        Adapter(
            name="ultrafeedback",
            kind="pair",
            function=ultrafeedback_row,
            columns=("instruction", "completions", "source"),
            hub_id="openbmb/UltraFeedback",
            licence="mit",
            openai_derived=True,
            matches=with_columns("instruction", "completions", "models"),
            turns=("completions",),
            turn_keys=frozenset({"response", "annotations"}),
            schema="public pages",
            note="The completion with the best mean of four aspect ratings against each lower one, up to three pairs a row; "
            "margin: difference of the means (1 to 5). Part truthful_qa overlaps with the benchmark of that name.",
        ),
        Adapter(
            name="ultrafeedback_binarized",
            kind="pair",
            function=ultrafeedback_binarized_row,
            columns=("chosen", "rejected", "prompt", "score_chosen", "score_rejected", "prompt_id"),
            hub_id="HuggingFaceH4/ultrafeedback_binarized",
            licence="mit",
            openai_derived=True,
            matches=with_columns("chosen", "rejected", "score_chosen", "score_rejected"),
            turns=("chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Take `--split train_prefs`. Margin: difference of the overall scores (1 to 10); no equal ones.",
        ),
        Adapter(
            name="ultrafeedback_binarized_cleaned",
            kind="pair",
            function=ultrafeedback_binarized_cleaned_row,
            columns=("chosen", "rejected", "prompt", "chosen-rating", "rejected-rating", "source"),
            hub_id="argilla/ultrafeedback-binarized-preferences-cleaned",
            licence="mit",
            openai_derived=True,
            matches=with_columns("chosen", "rejected", "chosen-rating", "rejected-rating"),
            turns=("chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Without TruthfulQA. Margin: difference of the mean ratings (1 to 5); no equal ones.",
        ),
        Adapter(
            name="infinity_preference",
            kind="pair",
            function=trl_preference_row,
            columns=("prompt", "chosen", "rejected", "tools", "id"),
            hub_id="BAAI/Infinity-Preference",
            licence="apache-2.0",
            turns=("prompt", "chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Answers by Gemma-2-9B-IT, whose terms apply to them. No margin.",
        ),
        Adapter(
            name="code_preference_pairs",
            kind="pair",
            function=code_preference_pairs_row,
            columns=("input", "accepted", "rejected", "ID"),
            hub_id="Vezora/Code-Preference-Pairs",
            licence="vezora",
            matches=with_columns("input", "accepted", "rejected"),
            schema="public pages",
            note="The publisher's own licence: read it. Rejected is the accepted answer with bugs put in. The column "
            "instruction is not read. No margin.",
        ),
        Adapter(
            name="orpo_dpo_mix_40k",
            kind="pair",
            function=preference_with_source_row,
            columns=("chosen", "rejected", "prompt", "source"),
            hub_id="mlabonne/orpo-dpo-mix-40k",
            licence="apache-2.0",
            openai_derived=True,
            turns=("chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="A mixture; part toxic-dpo-v0.2 teaches to comply with harmful requests and is often dropped. No margin.",
        ),
        Adapter(
            name="chatbot_arena_conversations",
            kind="pair",
            function=chatbot_arena_conversations_row,
            columns=("conversation_a", "conversation_b", "winner", "question_id"),
            hub_id="lmsys/chatbot_arena_conversations",
            licence="cc-by-4.0 (prompts), cc-by-nc-4.0 (answers)",
            gated=True,
            non_commercial=True,
            openai_derived=True,
            matches=with_columns("conversation_a", "conversation_b", "winner"),
            turns=("conversation_a", "conversation_b"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Ties are left out. Both sides hold all turns after the first question. Some texts are unsafe. No margin.",
        ),
        Adapter(
            name="tulu_3_pref_personas_if",
            kind="pair",
            function=trl_preference_row,
            columns=("prompt", "chosen", "rejected", "tools", "id"),
            hub_id="allenai/tulu-3-pref-personas-instruction-following",
            licence="odc-by",
            openai_derived=True,
            matches=with_columns("prompt", "constraints", "chosen", "rejected", "chonsen_model"),
            turns=("prompt", "chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="The card spells a column chonsen_model. No margin.",
        ),
        Adapter(
            name="human_like_dpo",
            kind="pair",
            function=trl_preference_row,
            columns=("prompt", "chosen", "rejected", "tools"),
            hub_id="HumanLLMs/Human-Like-DPO-Dataset",
            licence="llama3",
            turns=("prompt", "chosen", "rejected"),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Answers by Llama 3. No margin.",
        ),
        Adapter(
            name="shp",
            kind="pair",
            function=shp_row,
            columns=(
                "history",
                "human_ref_A",
                "human_ref_B",
                "labels",
                "score_A",
                "score_B",
                "score_ratio",
                "post_id",
                "c_root_id_A",
                "c_root_id_B",
                "domain",
            ),
            hub_id="stanfordnlp/SHP",
            matches=with_columns("history", "human_ref_A", "human_ref_B", "labels", "score_ratio"),
            schema="public pages",
            note="The card states no licence (an early version: MIT); Reddit's terms apply. Margin: the higher score over the "
            "lower one; the authors train on 2 and more.",
        ),
        Adapter(
            name="oasst1_pairs",
            kind="pair",
            function=oasst_pairs_row,
            columns=_OASST_COLUMNS,
            hub_id="OpenAssistant/oasst1",
            licence="apache-2.0",
            matches=with_columns("message_tree_id"),
            group_by="message_tree_id",
            harmless=frozenset({"labels"}),
            schema="real rows",
            note="Each two ranked answers to one message; margin: distance of their ranks (1 or more).",
        ),
        Adapter(
            name="oasst2_pairs",
            kind="pair",
            function=oasst_pairs_row,
            columns=_OASST_COLUMNS,
            hub_id="OpenAssistant/oasst2",
            licence="apache-2.0",
            matches=with_columns("message_tree_id"),
            group_by="message_tree_id",
            harmless=frozenset({"labels"}),
            schema="public pages",
            note="Each two ranked answers to one message; margin: distance of their ranks (1 or more).",
        ),
        Adapter(
            name="helpsteer2_preference",
            kind="pair",
            function=helpsteer2_preference_row,
            columns=("prompt", "response_1", "response_2", "preference_strength"),
            hub_id="nvidia/HelpSteer2",
            licence="cc-by-4.0",
            matches=with_columns("prompt", "response_1", "response_2", "preference_strength"),
            schema="public pages",
            note="Point at its file preference/preference.jsonl.gz: the hub id alone gives ratings of single answers. "
            "Margin: 1 (slightly better) to 3 (much better); ties are left out.",
        ),
        Adapter(
            name="helpsteer3_preference",
            kind="pair",
            function=helpsteer3_preference_row,
            columns=("context", "response1", "response2", "overall_preference"),
            hub_id="nvidia/HelpSteer3",
            licence="cc-by-4.0",
            matches=with_columns("context", "response1", "response2", "overall_preference"),
            turns=("context",),
            turn_keys=TURN_KEYS,
            schema="public pages",
            note="Take `--subset preference`. Margin: 1 (slightly better) to 3 (much better); ties are left out.",
        ),
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


def adapt(adapter: Adapter, row: Row, *, rules: KeyRules = NO_RULES, counts: KeyCounts | None = None) -> list[Result]:
    """What an adapter makes of a row and of what its other keys say, with a source and a licence written into each result.

    Args:
        rules: what the user said of keys that cannot be judged.
        counts: takes what was not read.

    Raises:
        Undecided: where a key may say that the answer is bad and its value does not tell.
        UserError: where a row of a format of ours does not hold what that format promises.
    """
    if adapter.reads_all:
        return [_stamped(adapter, result) for result in _made(adapter, row)]
    counts = KeyCounts() if counts is None else counts
    if adapter.spans is not None:
        spans = row["rows"] if isinstance(row.get("rows"), list) else [span for _, span in adapter.spans(row)]
        made = [result for span in spans for result in _adapt_one(adapter, span, rules, counts)]
        return without_beginnings(made) or [Skip("an export without spans")]
    if adapter.joins_rows and isinstance(row.get("rows"), list):
        for each in row["rows"]:
            name = adapter.not_read(each) if adapter.not_read is not None and isinstance(each, dict) else None
            if name is not None:
                counts.unread[name] += 1
            elif isinstance(each, dict):
                look_at_row(each, adapter.reader, rules, counts)
        results = _made(adapter, row)
        if adapter.is_log and rules.redact:
            results = [_redacted(result, counts) for result in results]
        return [_stamped(adapter, result) for result in results]
    return _adapt_one(adapter, row, rules, counts)


def _adapt_one(adapter: Adapter, row: Row, rules: KeyRules, counts: KeyCounts) -> list[Result]:
    if adapter.any_spelling:
        row = in_usual_spelling(row, adapter.reader.columns)
    if rules.ignore:
        row = without_ignored_weights(row, adapter.reader, rules, counts)
    facts = look_at_row(row, adapter.reader, rules, counts)
    if isinstance(facts, Skip):
        return [facts]
    return [_stamped(adapter, facts.put_into(result)) for result in _made(adapter, row)]


def _made(adapter: Adapter, row: Row) -> Sequence[Result]:
    made = adapter.function(row)
    results = [made] if isinstance(made, Skip | Chat | PreferencePair) else made
    assert results, f"{adapter.name} returned nothing; a row that gives nothing is a Skip"
    return [_with_reasoning(result) for result in results]


def _redacted(result: Result, counts: KeyCounts) -> Result:
    """A chat with placeholders in the place of secrets, in all that was said and called."""
    if not isinstance(result, Chat):
        return result
    from data.redaction import redact_value  # noqa: PLC0415 - its patterns take a while, and few rows are logs

    messages, found = redact_value([message.model_dump(mode="json") for message in result.messages])
    counts.redacted.update(finding.kind for finding in found)
    return Chat.model_validate({**dict(result), "messages": messages}) if found else result


def _with_reasoning(result: Result) -> Result:
    """The result with thoughts that stand in texts as reasoning, whoever read the texts."""
    parts = ("messages",) if isinstance(result, Chat) else ("prompt", "chosen", "rejected")
    if isinstance(result, Skip) or not any("think>" in m.content for part in parts for m in getattr(result, part)):
        return result
    try:
        if isinstance(result, Chat):
            return result.model_copy(update={"messages": with_reasoning(result.messages)})
        prompt = with_reasoning(result.prompt)
        sides = {side: with_reasoning(getattr(result, side), prompt) for side in ("chosen", "rejected")}
        return PreferencePair.model_validate({**dict(result), "prompt": prompt, **sides})
    except Unrepresentable as reason:
        return Skip(str(reason))
    except ValidationError:  # the one thing that can have become wrong
        return Skip(SAME)


def _stamped(adapter: Adapter, result: Result) -> Result:
    if isinstance(result, Skip):
        return result
    if adapter.hub_id is None:
        source = result.source or adapter.called or adapter.name
    else:
        source = f"{adapter.name}/{result.source}" if result.source else adapter.name
    # The adapter made it just now and nobody else holds it, so it need not be copied, which would take a tenth of all time.
    result.__dict__["source"] = source
    if result.licence is None:
        result.__dict__["licence"] = adapter.licence
    return result


def adapt_chunk(
    adapter: Adapter,
    chunk: Chunk,
    *,
    line_of_id: dict[str, int] | None = None,
    rules: KeyRules = NO_RULES,
    counts: KeyCounts | None = None,
) -> Iterator[tuple[int, list[Result] | BadLine]]:
    """Each row of a chunk with its number, as what the adapter makes of it, or as a `BadLine`.

    Bad are: what is no JSON or no object, what does not hold the promises of a format of ours, and a row on which the adapter
    fails. For trajectories also an id that `line_of_id` has already; it is filled on the way.

    Raises:
        UserError: where keys of rows may say that an answer is bad and do not tell; it names all of them in this chunk.
    """
    ids = line_of_id if adapter.name == "trajectory" else None
    undecided: dict[str, list[tuple[int, Any]]] = {}
    for number, row in chunk.rows():
        if isinstance(row, BadLine):
            yield number, row
            continue
        if not isinstance(row, dict):
            yield number, BadLine(chunk.path, number, f"a row is a JSON object, got {type(row).__name__}")
            continue
        try:
            results = adapt(adapter, row, rules=rules, counts=counts)
        except Undecided as keys:
            for key, value in keys.values.items():
                undecided.setdefault(key, []).append((number, value))
            continue  # to the last row of the chunk, so that one message names all keys and some of their values
        except UserError as error:
            yield number, BadLine(chunk.path, number, str(error))
            continue
        except Exception as error:  # one strange row of a million must not end the work on the others; it is reported
            fault = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            yield number, BadLine(chunk.path, number, f"the adapter {adapter.name} failed on it: {fault}")
            continue
        if ids is not None and ids.setdefault(row["id"], number) != number:
            reason = f"id {row['id']!r} stands already on line {ids[row['id']]}"
            yield number, BadLine(chunk.path, number, reason)
            continue
        if not undecided:
            yield number, results
    if undecided:
        raise UserError(undecided_message(chunk.path, undecided))


def chunks_for(adapter: Adapter, source: Input) -> Iterator[Chunk]:
    """The chunks of an input, with rows of one thing put together where the adapter asks for that."""
    if adapter.spans is not None:
        return rows_by_conversation(source, adapter.spans)
    chunks = source.chunks()
    if adapter.whole_file:
        return whole_files(chunks)
    return chunks if adapter.group_by is None else neighbours(chunks, adapter.group_by)


def read_adapted(
    adapter: Adapter, source: Input | str | Path, *, rules: KeyRules = NO_RULES, counts: KeyCounts | None = None
) -> Iterator[tuple[int, Result]]:
    """Every row of an input that must be clean, as (number of the row in its file, from 1; what the adapter makes of it).

    Raises:
        UserError: at the first bad row, naming file:line.
    """
    line_of_id: dict[str, int] = {}
    path = ""
    for chunk in chunks_for(adapter, source if isinstance(source, Input) else find_input(str(source))):
        if chunk.path != path:
            path = chunk.path
            line_of_id.clear()
        for number, results in adapt_chunk(adapter, chunk, line_of_id=line_of_id, rules=rules, counts=counts):
            if isinstance(results, BadLine):
                advice = f"\n{_ADVICE}" if adapter.name == "trajectory" else ""
                raise UserError(f"{results}{advice}")
            for result in results:
                yield number, result


_ADVICE = "`python -m data validate` lists every bad line of a file."


def why_not_commercial(adapter: Adapter) -> str | None:
    """Why a source cannot be used for a commercial model, or null where nothing is known against it."""
    if adapter.non_commercial:
        return f"{adapter.name}: its licence ({adapter.licence}) forbids commercial use"
    if adapter.openai_derived:
        return f"{adapter.name}: models of OpenAI wrote its answers, and their terms forbid training competing models"
    if adapter.hub_id is not None and adapter.licence is None:
        return f"{adapter.name}: its publisher states no licence"
    return None


_NON_COMMERCIAL = re.compile(
    r"\b(nc|non-?commercial(ly)?|no-commercial(-use)?|not-for-commercial|research(-use|-purposes?)?-only|academic-use(-only)?|academic-only)\b"
    r"|비-?상업|비-?영리|상업적-?(이용|사용|목적)-?(금지|불가|제한)|연구-?(용|목적)"
)


def why_row_not_commercial(licence: str | None, source: str) -> str | None:
    """The same of one row, as it travels with the row: by its licence, and by the source that it names."""
    if licence is not None and _NON_COMMERCIAL.search(re.sub(r"[\s_]+", "-", licence.lower())):
        return f"not commercial: licence {licence}"
    adapter = ADAPTERS.get(source.split("/")[0])
    if adapter is not None and why_not_commercial(adapter):
        return f"not commercial: source {adapter.name}"
    return None


def not_commercial(result: Chat | PreferencePair) -> Skip | None:
    """That of a result, as a Skip."""
    reason = why_row_not_commercial(result.licence, result.source)
    return None if reason is None else Skip(reason)
