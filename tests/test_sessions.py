"""Logs of agents: a file is one session, whose lines become chats in which each turn of the model is learned once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import core.errors
import data.formats.inputs
from data.chats import Chat, Skip
from data.formats.catalogue import adapter_named
from data.formats.inputs import find_input
from data.formats.openai_chat import chat_to_openai_row
from data.formats.reading import adapt, read_adapted
from data.formats.recognise import find_adapter, find_parts
from support.commands import Run
from support.paths import SAMPLES

SESSIONS = ("claude_code_session", "codex_rollout", "pi_session")
Line = dict[str, Any]


def lines_of(name: str) -> list[Line]:
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def write(path: Path, lines: list[Line | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def results_of(name: str, lines: list[Line]) -> list[Any]:
    return adapt(adapter_named(name), {"rows": lines, "holes": []})


def chats_of(name: str, path: Path) -> list[Chat]:
    return [result for _, result in read_adapted(adapter_named(name), path) if isinstance(result, Chat)]


def claude(kind: str, own: str, parent: str | None, content: Any, answer: str | None = None, **more: Any) -> Line:
    message = {"role": kind, "content": content} | ({"id": answer} if answer else {})
    return {"type": kind, "uuid": own, "parentUuid": parent, "sessionId": "s", "message": message, **more}


def codex(kind: str, **payload: Any) -> Line:
    return {"timestamp": "2026-02-03T09:00:00Z", "type": kind, "payload": payload}


def codex_message(role: str, text: str) -> Line:
    kind = "output_text" if role == "assistant" else "input_text"
    return codex("response_item", type="message", role=role, content=[{"type": kind, "text": text}])


def pi(own: str, parent: str | None, role: str, content: Any, **more: Any) -> Line:
    message = {"role": role, "content": content, **more}
    return {"type": "message", "id": own, "parentId": parent, "message": message}


CLAUDE: list[Line] = [
    claude("user", "u1", None, "부산 날씨는?"),
    claude("assistant", "a1", "u1", [{"type": "text", "text": "볼게요."}], "m1"),
    claude("assistant", "a2", "a1", [{"type": "tool_use", "id": "t1", "name": "get", "input": {"city": "부산"}}], "m1"),
    claude("user", "r1", "a2", [{"type": "tool_result", "tool_use_id": "t1", "content": "맑음"}]),
    claude("assistant", "a3", "r1", [{"type": "text", "text": "맑아요."}], "m2"),
]
CODEX: list[Line] = [
    codex("session_meta", id="c"),
    codex_message("user", "부산 날씨는?"),
    codex("response_item", type="function_call", name="get", arguments='{"city": "부산"}', call_id="t1"),
    codex("response_item", type="function_call_output", call_id="t1", output="맑음"),
    codex_message("assistant", "맑아요."),
]


PI: list[Line] = [
    {"type": "session", "version": 3, "id": "p", "timestamp": "2026-02-03T09:00:00Z", "cwd": "/w"},
    pi("u1", None, "user", "부산 날씨는?"),
    pi("a1", "u1", "assistant", [{"type": "toolCall", "id": "t1", "name": "get", "arguments": {"city": "부산"}}]),
    pi("r1", "a1", "toolResult", [{"type": "text", "text": "맑음"}], toolCallId="t1", toolName="get"),
    pi("a2", "r1", "assistant", [{"type": "text", "text": "맑아요."}], stopReason="stop"),
]
LOGS = list(zip(SESSIONS, (CLAUDE, CODEX, PI), strict=True))


@pytest.mark.parametrize("name", SESSIONS)
def test_a_chat_of_a_session_goes_through_openai_rows_and_comes_back(name: str, tmp_path: Path) -> None:
    chats = chats_of(name, SAMPLES / f"{name}.jsonl")
    rows = [chat_to_openai_row(chat) for chat in chats]
    assert chats and not any(isinstance(row, Skip) for row in rows)
    back = chats_of("openai_chat", write(tmp_path / "rows.jsonl", [row for row in rows if not isinstance(row, Skip)]))
    assert [(chat.messages, chat.tools) for chat in back] == [(chat.messages, chat.tools) for chat in chats]


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_over_many_chunks_is_one_thing_packed_or_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = SAMPLES / f"{name}.jsonl"
    whole = chats_of(name, path)
    packed = tmp_path / "rollout.jsonl.zst"
    packed.write_bytes(pa.Codec("zstd").compress(path.read_bytes(), asbytes=True))
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 200)
    assert chats_of(name, path) == chats_of(name, packed) == whole
    assert find_adapter("auto", find_input(str(packed)), may_import=False)[0].name == name


@pytest.mark.parametrize(("name", "session"), LOGS)
def test_a_line_that_was_cut_off_is_told_and_the_session_before_it_is_read(
    run: Run, name: str, session: list[Line], tmp_path: Path
) -> None:
    log = write(tmp_path / "log.jsonl", [*session, '{"type": "assis'])
    code, out, _ = run("convert", log, "--out", tmp_path / "chats.jsonl")
    assert code == 0 and f"{log}:6: not JSON" in out
    (chat,) = chats_of("chats", tmp_path / "chats.jsonl")
    assert [message.content for message in chat.messages][-2:] == ["맑음", "맑아요."]
    assert chat.source == name


@pytest.mark.parametrize(
    ("name", "session", "reason"),
    [
        ("claude_code_session", CLAUDE, "a line that follows one that is not in the file"),
        (
            "claude_code_session",
            [{**line, "parentUuid": None} for line in CLAUDE],
            "a line between others cannot be read",
        ),
        ("codex_rollout", CODEX, "a line between others cannot be read"),
        ("pi_session", PI, "a line that follows one that is not in the file"),
    ],
)
def test_half_a_session_is_never_read_as_a_whole_one(
    name: str, session: list[Line], reason: str, tmp_path: Path
) -> None:
    """Line 3 holds the call; without it the answer would come out of nothing."""
    log = write(tmp_path / "log.jsonl", [*session[:2], '{"type": "user", "mess', *session[3:]])
    with pytest.raises(core.errors.UserError, match=r"log\.jsonl:3: not JSON"):
        list(read_adapted(adapter_named(name), log))
    (chunk,) = data.formats.inputs.whole_files(find_input(str(log)).chunks())
    ((_, whole),) = [(number, row) for number, row in chunk.rows() if isinstance(row, dict)]
    results = adapt(adapter_named(name), whole)
    assert Skip(reason) in results and not any(
        isinstance(result, Chat) and "맑아요." in result.messages[-1].content for result in results
    )


def test_a_folder_of_logs_is_read_file_by_file(run: Run, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write(logs / "a.jsonl", CLAUDE)
    write(logs / "b.jsonl", [{**line, "sessionId": "s2"} for line in CLAUDE])
    write(logs / "empty.jsonl", [{"type": "summary", "summary": "날씨", "leafUuid": "a3"}])
    write(logs / "rollouts" / "c.jsonl", CODEX)
    parts = find_parts("auto", find_input(str(logs / "rollouts")), may_import=False)
    assert [part.adapter.name for part in parts] == ["codex_rollout"]
    (logs / "empty.jsonl").rename(logs / "rollouts" / "empty.jsonl")  # which other file is it like?
    code, out, _ = run("convert", logs / "rollouts", "--out", tmp_path / "c.jsonl")
    assert code == 0 and "no word of an assistant" in out
    (logs / "rollouts" / "empty.jsonl").unlink()
    run("convert", logs, "--out", tmp_path / "all.jsonl")
    assert [chat.id for chat in chats_of("chats", tmp_path / "all.jsonl")] == ["s", "s2", "c"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("claude_code_session", {"type=summary": 1, "isMeta": 1, "isApiErrorMessage": 1, "toolUseResult": 5}),
        ("pi_session", {"type=model_change": 1, "role=bashExecution": 1, "message[].usage": 1}),
        ("codex_rollout", {"type=event_msg/token_count": 1, "type=turn_context": 1, "payload[].encrypted_content": 1}),
    ],
)
def test_lines_and_keys_that_are_not_read_are_counted(
    run: Run, name: str, told: dict[str, int], tmp_path: Path
) -> None:
    run("convert", SAMPLES / f"{name}.jsonl", "--out", tmp_path / "chats.jsonl")
    counts = json.loads((tmp_path / "chats.counts.json").read_text())
    assert {key: counts["not_read"].get(key) for key in told} == told
    assert counts["rows"] == 1 and counts["read"] == counts["kept"] + sum(counts["dropped"].values())


def test_parallel_calls_are_one_turn_in_whatever_order_the_lines_stand() -> None:
    calls = [
        claude(
            "assistant",
            f"a{n}",
            f"a{n - 1}" if n else "u",
            [{"type": "tool_use", "id": f"t{n}", "name": "get", "input": {"n": n}}],
            "m",
        )
        for n in range(3)
    ]
    results = [
        claude("user", f"r{n}", f"a{n}", [{"type": "tool_result", "tool_use_id": f"t{n}", "content": f"{n}번"}])
        for n in range(3)
    ]
    first, last = (
        claude("user", "u", None, "셋을 봐"),
        claude("assistant", "z", "r2", [{"type": "text", "text": "봤어요"}], "m2"),
    )
    for middle in ([*calls, *results], [line for pair in zip(calls, results, strict=True) for line in pair]):
        (chat,) = results_of("claude_code_session", [first, *middle, last])
        assert [call.arguments for call in chat.messages[1].tool_calls] == [{"n": 0}, {"n": 1}, {"n": 2}]
        answers = {message.tool_call_id: message.content for message in chat.messages[2:5]}
        assert [answers[call.id] for call in chat.messages[1].tool_calls] == ["0번", "1번", "2번"]
        assert chat.messages[-1].content == "봤어요" and len(chat.messages) == 6


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=30))
def test_every_answer_of_a_tree_is_learned_exactly_once(choices: list[tuple[int, bool]]) -> None:
    """Whatever was asked anew, from wherever, and with lines between that say nothing."""
    lines = [claude("user", "0", None, "처음")]
    for own, (parent, is_silent) in enumerate(choices, start=1):
        above = lines[parent % len(lines)]
        kind = "user" if above["type"] != "user" else "assistant"
        line = claude(kind, str(own), above["uuid"], f"{own}번", f"m{own}" if kind == "assistant" else None)
        if is_silent:
            line = {**line, "uuid": f"{own}'", "type": "system", "subtype": "hook"}
            line.pop("message")
            lines.append(line)
            line = claude(kind, str(own), f"{own}'", f"{own}번", f"m{own}" if kind == "assistant" else None)
        lines.append(line)
    results = results_of("claude_code_session", lines)
    learned = Counter(
        message.content
        for result in results
        if isinstance(result, Chat)
        for message in result.messages
        if message.loss_weight
    )
    assert learned == Counter(line["message"]["content"] for line in lines if line["type"] == "assistant")
    assert {result for result in results if isinstance(result, Skip)} <= {Skip("no new answer")}


def test_a_thought_that_an_item_and_an_event_hold_is_there_once() -> None:
    lines = [
        CODEX[0],
        codex_message("user", "부산?"),
        codex("event_msg", type="agent_reasoning", text="지도를 보자."),
        codex("response_item", type="reasoning", summary=[{"type": "summary_text", "text": "지도를 보자."}]),
        codex("event_msg", type="agent_message", message="남쪽이에요."),
        codex_message("assistant", "남쪽이에요."),
    ]
    (chat,) = results_of("codex_rollout", lines)
    assert [(m.reasoning_content, m.content) for m in chat.messages[1:]] == [("지도를 보자.", "남쪽이에요.")]
    del lines[3]
    (chat,) = results_of("codex_rollout", lines)
    assert [(m.reasoning_content, m.content) for m in chat.messages[1:]] == [("지도를 보자.", "남쪽이에요.")]


def test_a_log_too_large_for_memory_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.formats.inputs, "LARGEST_FILE_BYTES", 1000)
    log = write(tmp_path / "log.jsonl", CLAUDE * 3)
    with pytest.raises(core.errors.UserError, match=r"log\.jsonl: a log of more than"):
        chats_of("claude_code_session", log)


def test_a_session_is_named_after_its_own_agent_and_not_after_one_that_it_called() -> None:
    aside = [
        claude("user", "d1", None, "시험을 찾아", isSidechain=True, agentId="x"),
        claude("assistant", "d2", "d1", "없어요", "md", isSidechain=True, agentId="x"),
    ]
    chats = results_of("claude_code_session", [*aside, *CLAUDE])
    assert [(chat.id, chat.group, len(chat.messages)) for chat in chats] == [("s/d2", "s", 2), ("s", "s", 4)]


def test_lines_that_a_resumed_session_repeats_are_read_once_and_other_lines_of_one_id_are_refused() -> None:
    again = [{**line, "sessionId": "s2"} for line in CLAUDE]
    more = [claude("user", "u2", "a3", "서울은?"), claude("assistant", "a4", "u2", "흐려요.", "m3")]
    (chat,) = results_of("claude_code_session", [*CLAUDE, *again, *more])
    assert [message.content for message in chat.messages if message.loss_weight] == ["볼게요.", "맑아요.", "흐려요."]
    other = {**CLAUDE[4], "message": {"role": "assistant", "content": "비가 와요."}}
    assert results_of("claude_code_session", [*CLAUDE, other]) == [Skip("two lines of one id")]


TOKEN, PHONE = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2, "010-9876-5432"


def with_secrets(text: str) -> str:
    return text.replace("부산", f"부산 {TOKEN[:40]}").replace("맑음", json.dumps({"a": f"맑음\n{TOKEN[:40]}\n{PHONE}"}))


@pytest.mark.parametrize(("name", "session"), LOGS)
def test_secrets_of_a_log_become_placeholders_as_it_is_read(
    run: Run, name: str, session: list[Line], tmp_path: Path
) -> None:
    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return with_secrets(value)
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        return [changed(item) for item in value] if isinstance(value, list) else value

    log, out = write(tmp_path / "log.jsonl", changed(session)), tmp_path / "chats.jsonl"
    _, told, _ = run("convert", log, "--out", out)
    text = out.read_text(encoding="utf-8") + (tmp_path / "chats.counts.json").read_text(encoding="utf-8") + told
    assert TOKEN[:40] not in text and PHONE not in text
    counts = json.loads((tmp_path / "chats.counts.json").read_text())
    assert "redacted: " in told and sum(counts["redacted"].values()) >= 4
    (chat,) = chats_of("chats", out)
    (call,) = (call for message in chat.messages for call in message.tool_calls)
    assert str(call.arguments["city"]).startswith("부산 <")
    run("convert", log, "--no-redact", "--out", out)
    assert out.read_text(encoding="utf-8").count(TOKEN[:40]) == 3
    recipe = tmp_path / "build.yaml"
    recipe.write_text(f"sources:\n  - {{path: {log}, adapter: {name}}}\nvalidation_share: 0\n", encoding="utf-8")
    code, told, error = run("build", "--config", recipe, "--out", tmp_path / "set")
    assert code == 0 and "redacted: " in told, error
    assert not any(TOKEN[:40].encode() in file.read_bytes() for file in (tmp_path / "set").rglob("*") if file.is_file())


# --- names of users and machines ---


def test_home_folders_users_and_hosts_become_the_same_placeholder_in_all_of_a_session(tmp_path: Path) -> None:
    lines = [
        claude("user", "1", None, "내 프로젝트 /home/minseo/app 를 봐줘, and C:\\Users\\Kyle Park\\x.txt"),
        claude(
            "assistant", "2", "1", [{"type": "tool_use", "id": "c", "name": "Bash", "input": {"command": "whoami"}}]
        ),
        claude("user", "3", "2", [{"type": "tool_result", "tool_use_id": "c", "content": "jiwoo"}]),
        claude("assistant", "4", "3", "jiwoo@nebula7:~/app$ ls in /home/minseo/app2; minseo는 /home/ubuntu; root too"),
    ]
    (chat,) = chats_of("claude_code_session", write(tmp_path / "s.jsonl", lines))
    said = chat.model_dump_json()
    assert not any(name in said for name in ("minseo", "Kyle", "jiwoo", "nebula7")), said
    assert chat.messages[0].content == "내 프로젝트 <HOME_1>/app 를 봐줘, and <HOME_2>\\x.txt"
    assert chat.messages[2].content == "<USER_3>"
    assert chat.messages[3].content == "<USER_3>@<HOST_1>:~/app$ ls in <HOME_1>/app2; <USER_1>는 /home/ubuntu; root too"


def test_names_stay_where_the_user_says_so_and_are_counted_by_kind_where_not(tmp_path: Path, run: Run) -> None:
    lines = [claude("user", "1", None, "look at /Users/minseo/a"), claude("assistant", "2", "1", "minseo it is")]
    path = write(tmp_path / "s.jsonl", lines)
    _, told, _ = run("convert", str(path), "--out", str(tmp_path / "out.jsonl"))
    assert "1 HOME, 1 USER" in told
    run("convert", str(path), "--no-redact", "--out", str(tmp_path / "out.jsonl"))
    assert "/Users/minseo/a" in (tmp_path / "out.jsonl").read_text(encoding="utf-8")
