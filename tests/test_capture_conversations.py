"""Exchanges put together into chats, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.capture.conversations import Conversations, Recorded
from benchmark.capture.exchanges import Api, Exchange, api_of
from benchmark.capture.trajectory import turn_to_trajectory
from data.chats import Chat
from data.formats.catalogue import ADAPTERS
from data.formats.reading import adapt
from data.trajectories import trajectory_to_turns

BEGAN = datetime(2026, 12, 1, tzinfo=UTC)
TOOL = {
    "name": "find",
    "description": "찾기",
    "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
}


class Taking:
    """Exchanges one after the other; all lines that were written, as they stand in the file in the end."""

    def __init__(self, *, redact: bool = True) -> None:
        self.conversations = Conversations(redact=redact)
        self.lines: dict[str, Recorded] = {}
        self.number = 0

    def take(self, api: Api, request: Any, response: Any, **more: Any) -> list[Recorded]:
        self.number += 1
        asked_at = BEGAN + timedelta(seconds=self.number)
        bodies = [
            each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode()
            for each in (request, response)
        ]
        status = more.pop("status", 200)
        exchange = Exchange(
            f"e{self.number}", api, asked_at, asked_at + timedelta(milliseconds=300), status, *bodies, **more
        )
        assert Exchange.from_line(exchange.to_line()) == exchange
        lines, changed = self.conversations.take(exchange)
        self.lines |= {line.id: line for line in lines} | changed
        return lines

    def again(self) -> Taking:
        """The same after a restart: what was written, read back."""
        other = Taking(redact=self.conversations.redact)
        other.lines, other.number = dict(self.lines), self.number
        other.conversations.add_earlier(Recorded.model_validate_json(line.to_line()) for line in self.lines.values())
        return other

    def chats(self) -> list[Chat]:
        return [turn.chat() for turn in self.conversations.last_turns()]

    def said(self) -> list[list[str]]:
        return [[message.content for message in chat.messages] for chat in self.chats()]

    def weights(self) -> list[list[float | None]]:
        return [[m.weight for m in chat.messages if m.role == "assistant"] for chat in self.chats()]


def choice(text: str | None, calls: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": "find", "arguments": json.dumps(arguments)}}
            for id, arguments in calls.items()
        ]
    return {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop", **more}


def ask(taking: Taking, told: list[Any], answer: dict[str, Any] | str, **more: Any) -> list[Recorded]:
    """One chat completion. `told` are texts of user and assistant in turn, or messages."""
    turns = [
        {"role": "assistant" if place % 2 else "user", "content": each} if isinstance(each, str) else each
        for place, each in enumerate(told)
    ]
    made = choice(answer) if isinstance(answer, str) else answer
    request = {"model": "m", "messages": turns, **more.pop("request", {})}
    return taking.take(Api.CHAT_COMPLETIONS, request, {"id": "c", "model": "m", "choices": [made]}, **more)


def test_only_four_ways_to_ask_are_recorded() -> None:
    assert [
        api_of("POST", path) for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
    ] == [*Api]
    assert api_of("GET", "/v1/responses") is None
    assert not any(
        api_of("POST", path)
        for path in ("/v1/models", "/v1/messages/count_tokens", "/v1/embeddings", "/v1/responses/x")
    )


def test_what_begins_with_all_that_was_said_goes_on_with_it() -> None:
    taking = Taking()
    ask(taking, ["가"], "나")
    ask(taking, ["다른"], "것")
    ask(taking, ["가", "나", "다"], "라")
    ask(taking, ["가", " 나 \n", "다", "라", "마"], "바")  # agents strip texts
    assert taking.said() == [["다른", "것"], ["가", "나", "다", "라", "마", "바"]]
    assert taking.chats()[1].id == "e1" and taking.weights() == [[None], [None, None, None]]
    assert [line.after for line in taking.lines.values()] == [None, None, "e1", "e3"]


def test_a_history_that_forks_is_a_chat_for_each_end_in_one_group() -> None:
    taking = Taking()
    ask(taking, ["가"], "나")
    ask(taking, ["가", "나", "왼쪽"], "L")
    ask(taking, ["가", "나", "오른쪽"], "R")
    ask(taking, ["가", "나", "오른쪽", "R", "끝"], "E")
    assert taking.said() == [["가", "나", "왼쪽", "L"], ["가", "나", "오른쪽", "R", "끝", "E"]]
    assert [(chat.id, chat.group) for chat in taking.chats()] == [("e1", "e1"), ("e3", "e1")]


def test_turns_that_no_server_was_seen_to_say_are_context() -> None:
    taking = Taking()
    ask(taking, ["예", "시", "가"], "나")
    ask(taking, ["예", "고침", "가", "나", "다"], "라")
    assert taking.weights() == [[0.0, None], [0.0, 0.0, None]]


def test_the_same_said_twice_is_two_chats_until_one_goes_on() -> None:
    taking = Taking()
    ask(taking, ["가"], "나")
    ask(taking, ["가"], "나")
    assert taking.said() == [["가", "나"]] * 2 and len({chat.id for chat in taking.chats()}) == 2
    ask(taking, ["가", "나", "다"], "라")
    assert taking.said() == [["가", "나", "다", "라"]] == taking.again().said()


def test_a_header_keeps_conversations_apart_and_names_their_group() -> None:
    taking = Taking()
    for name in ("h1", "h2"):
        ask(taking, ["가"], "나", conversation=name)
    for name in ("h1", "h2"):
        ask(taking, ["가", "나", f"다 {name}"], "라", conversation=name)
    ask(taking, ["줄인 것"], "나", conversation="h1")
    assert taking.said() == [["가", "나", "다 h1", "라"], ["가", "나", "다 h2", "라"], ["줄인 것", "나"]]
    assert [chat.group for chat in taking.chats()] == ["h1", "h2", "h1"]


def test_other_tools_or_another_system_prompt_are_another_chat() -> None:
    taking = Taking()
    tools = {"tools": [{"type": "function", "function": TOOL}]}
    ask(taking, ["가"], "나", request=tools)
    ask(taking, ["가", "나", "다"], "라")
    system = {"role": "system", "content": "짧게"}
    taking.take(
        Api.CHAT_COMPLETIONS, {"messages": [system, {"role": "user", "content": "가"}]}, {"choices": [choice("나")]}
    )
    assert [len(chat.messages) for chat in taking.chats()] == [2, 4, 3]
    assert [len(chat.tools) for chat in taking.chats()] == [1, 0, 0]


def agent(taking: Taking, instruction: str, paths: list[str]) -> None:
    """An agent that looks for things, one call in each turn and two in the first."""
    told: list[Any] = [{"role": "system", "content": "도와주세요"}, {"role": "user", "content": instruction}]
    tools = {"tools": [{"type": "function", "function": TOOL}]}
    for place, path in enumerate(paths):
        calls = {f"c{place}a": {"q": path}} | ({f"c{place}b": {"q": "둘"}} if place == 0 else {})
        answer = choice(None if place else "찾아볼게요", calls)
        taking.take(
            Api.CHAT_COMPLETIONS, {"model": "m", "messages": told, **tools}, {"model": "m", "choices": [answer]}
        )
        told = [*told, answer["message"]]
        told += [{"role": "tool", "tool_call_id": id, "content": f"{id}에서 찾음"} for id in calls]
    taking.take(
        Api.CHAT_COMPLETIONS, {"model": "m", "messages": told, **tools}, {"model": "m", "choices": [choice("끝")]}
    )


def test_one_instruction_is_a_record_that_says_the_same_and_judges_nothing() -> None:
    taking = Taking()
    agent(taking, "보고서를 찾아요", ["a", "b", "c"])
    (turn,) = taking.conversations.last_turns()
    record = turn_to_trajectory(turn)
    assert record is not None
    assert [message.content for message in trajectory_to_turns(record)] == [
        message.content for message in turn.chat().messages
    ]
    assert record.outcome == "partial" and record.metadata.model_extra == {"judged": False, "inferred_tools": []}
    assert [(action.command, action.input, action.output, action.error) for action in record.action_sequence] == [
        ("find", {"q": "a"}, "c0a에서 찾음", None),
        ("find", {"q": "둘"}, "c0b에서 찾음", None),
        ("find", {"q": "b"}, "c1a에서 찾음", None),
        ("find", {"q": "c"}, "c2a에서 찾음", None),
    ]
    assert [action.turn for action in record.action_sequence] == [2, 2, None, None]
    first = record.action_sequence[0]
    assert (first.start_time, first.end_time) == (BEGAN + timedelta(seconds=1.3), BEGAN + timedelta(seconds=2))
    assert record.metadata.tools[0].function.name == "find" and record.metadata.system == "도와주세요"


def test_an_agent_may_give_calls_other_ids() -> None:
    taking = Taking()
    ask(taking, ["찾아"], choice(None, {"call_A": {"q": "x"}, "call_B": {"q": "y"}}))
    told = ["찾아", choice(None, {"s1": {"q": "x"}, "s2": {"q": "y"}})["message"]]
    told += [{"role": "tool", "tool_call_id": id, "content": f"{id}의"} for id in ("s1", "s2")]
    ask(taking, told, choice(None, {"call_A": {"q": "z"}}))  # a server that counts anew
    (chat,) = taking.chats()
    assert [(m.tool_call_id, m.content) for m in chat.messages[2:4]] == [("call_A", "s1의"), ("call_B", "s2의")]
    assert len({call.id for m in chat.messages for call in m.tool_calls}) == 3 and taking.weights() == [[None, None]]


def test_several_instructions_or_an_open_call_are_no_record() -> None:
    taking = Taking()
    ask(taking, ["가"], "나")
    ask(taking, ["가", "나", "다"], "라")
    ask(taking, ["찾아"], choice(None, {"c": {"q": "x"}}))
    assert [turn_to_trajectory(turn) for turn in taking.conversations.last_turns()] == [None, None]


def test_after_a_restart_redacted_conversations_go_on() -> None:
    told = ["전화는 010-1234-5678, 집은 /home/mina", "mina님 010-1234-5678 맞죠", "네"]
    taking = Taking()
    ask(taking, told[:1], told[1])
    after = taking.again()
    ask(after, told, "010-1234-5678 알겠어요")
    assert after.said() == [
        ["전화는 <PHONE_1>, 집은 <HOME_1>", "<USER_1>님 <PHONE_1> 맞죠", "네", "<PHONE_1> 알겠어요"]
    ]


def test_a_name_that_a_later_turn_gives_away_is_taken_out_of_earlier_lines() -> None:
    taking = Taking()
    ask(taking, ["mina가 물어요"], "네 mina")
    assert taking.said() == [["mina가 물어요", "네 mina"]]
    ask(taking, ["mina가 물어요", "네 mina", "/home/mina/x 를 봐"], "봤어요")
    assert not any(b"mina" in line.to_line() for line in taking.lines.values())
    assert (
        taking.again().said() == taking.said() == [["<USER_1>가 물어요", "네 <USER_1>", "<HOME_1>/x 를 봐", "봤어요"]]
    )


def test_what_no_chat_can_hold_is_kept_with_its_reason() -> None:
    taking = Taking()
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    ask(taking, [{"role": "user", "content": picture}], "고양이")
    ask(taking, ["가"], choice("잘린", finish_reason="length"))
    taking.take(Api.CHAT_COMPLETIONS, b"no json", {"choices": [choice("x")]})
    taking.take(Api.CHAT_COMPLETIONS, {"messages": []}, b"<html>busy</html>", status=502)
    taking.take(Api.COMPLETIONS, {"prompt": [1, 2, 3]}, {"choices": [{"text": "a", "finish_reason": "stop"}]})
    assert not taking.chats() and len(taking.lines) == 5
    assert taking.conversations.left_out.total() == 5 and taking.again().conversations.left_out.total() == 5
    lines = list(taking.lines.values())
    assert "고양이" in json.dumps(lines[0].response, ensure_ascii=False) and lines[2].request == "no json"
    assert lines[3].response == {"error": "<html>busy</html>"}


def test_several_answers_of_one_request_are_chats_of_one_group() -> None:
    taking = Taking()
    response = {"choices": [choice("나"), choice("너", index=1)]}
    taking.take(Api.CHAT_COMPLETIONS, {"n": 2, "messages": [{"role": "user", "content": "가"}]}, response)
    assert taking.said() == [["가", "나"], ["가", "너"]] and [chat.id for chat in taking.chats()] == ["e1/0", "e1/1"]
    assert len({chat.group for chat in taking.chats()}) == 1


# ---------------------------------------------------------------- the other APIs


def test_messages_of_anthropic_become_the_chat_that_its_adapter_reads() -> None:
    taking = Taking()
    system = [{"type": "text", "text": "짧게", "cache_control": {"type": "ephemeral"}}]
    tools = [{"name": "find", "description": "찾기", "input_schema": TOOL["parameters"]}]
    said: list[Any] = [{"role": "user", "content": "보고서?"}]
    thought = {"type": "thinking", "thinking": "어디일까", "signature": "s"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": "보고서"}}
    events = [
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "model": "c-1", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "어디일까"}},
        {"type": "content_block_start", "index": 1, "content_block": {**use, "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"q": "보'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '고서"}'}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    stream = "".join(f"event: {each['type']}\ndata: {json.dumps(each, ensure_ascii=False)}\n\n" for each in events)
    common = {"model": "c-1", "max_tokens": 9, "system": system, "tools": tools}
    taking.take(Api.MESSAGES, {**common, "messages": said, "stream": True}, stream.encode())
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "여기"}
    said += [{"role": "assistant", "content": [thought, use]}, {"role": "user", "content": [result]}]
    answer = {
        "id": "msg_2",
        "role": "assistant",
        "model": "c-1",
        "content": [{"type": "text", "text": "찾음"}],
        "stop_reason": "end_turn",
    }
    taking.take(Api.MESSAGES, {**common, "system": "짧게", "messages": said}, answer)
    (chat,) = taking.chats()
    row = {"request": {**common, "messages": said}, "response": answer}
    (expected,) = adapt(ADAPTERS["anthropic_messages"], row)
    assert isinstance(expected, Chat)
    assert (chat.messages, chat.tools) == (expected.messages, expected.tools)
    assert chat.source == "capture/c-1" and chat.messages[2].reasoning_content == "어디일까"


def response_of(id: str, *output: Any) -> dict[str, Any]:
    return {"id": id, "object": "response", "status": "completed", "model": "m", "output": list(output)}


def message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "logprobs": [{"token": text, "logprob": -0.25}]}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_response_goes_on_from_the_one_that_it_names(restarts: bool) -> None:
    taking = Taking()
    tool = {"type": "function", **TOOL}
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_x9",
        "name": "find",
        "arguments": '{"q": "010-1234-5678"}',
    }
    common = {"model": "m", "instructions": "짧게", "tools": [tool]}
    taking.take(Api.RESPONSES, {**common, "input": "번호 010-1234-5678 찾아"}, response_of("resp_1", call))
    taking = taking.again() if restarts else taking
    result = {"type": "function_call_output", "call_id": "call_x9", "output": "여기"}
    taking.take(
        Api.RESPONSES,
        {**common, "previous_response_id": "resp_1", "input": [result]},
        response_of("resp_2", message("찾음")),
    )
    taking.take(
        Api.RESPONSES,
        {**common, "previous_response_id": "resp_2", "input": "고마워"},
        response_of("resp_3", message("네")),
    )
    (chat,) = taking.chats()
    assert [m.content for m in chat.messages] == ["짧게", "번호 <PHONE_1> 찾아", "", "여기", "찾음", "고마워", "네"]
    assert chat.messages[2].tool_calls[0].arguments == {"q": "<PHONE_1>"}
    assert taking.weights() == [[None, None, None]]
    taking.take(
        Api.RESPONSES, {"previous_response_id": "resp_unknown", "input": "?"}, response_of("resp_4", message("네"))
    )
    assert taking.conversations.left_out == {"a part of the conversation that is stored elsewhere": 1}


def test_a_stream_of_the_responses_api_is_its_last_response() -> None:
    taking = Taking()
    events = [
        {"type": "response.created", "response": {**response_of("r"), "status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "안"},
        {"type": "response.completed", "response": response_of("r", message("안녕\u2028하세요"))},
    ]
    stream = "".join(
        f"event: {each['type']}\r\ndata: {json.dumps(each, ensure_ascii=False)}\r\n\r\n" for each in events
    )
    taking.take(Api.RESPONSES, {"model": "m", "input": "인사"}, stream.encode())
    assert taking.said() == [["인사", "안녕\u2028하세요"]]
    taking.take(Api.RESPONSES, {"model": "m", "input": "둘"}, stream.encode()[:190], is_whole=False)
    assert taking.conversations.left_out == {"a reply that was cut off": 1}


def test_a_completion_is_a_prompt_and_its_answer() -> None:
    taking = Taking()
    taking.take(
        Api.COMPLETIONS,
        {"model": "m", "prompt": "옛날에"},
        {"choices": [{"index": 0, "text": " 곰이", "finish_reason": "stop"}]},
    )
    pieces = [{"choices": [{"index": 0, "text": each, "finish_reason": None}]} for each in (" 여", "우가")]
    pieces.append({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    stream = "".join(f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in pieces) + "data: [DONE]\n\n"
    taking.take(Api.COMPLETIONS, {"model": "m", "prompt": "옛날에", "stream": True}, stream.encode())
    assert taking.said() == [["옛날에", " 곰이"], ["옛날에", " 여우가"]]


# ---------------------------------------------------------------- tokens


def tokens_of(taking: Taking) -> list[Any]:
    return [line.sampled and line.sampled.model_dump() for line in taking.lines.values()]


def test_ids_and_log_probs_are_kept_as_each_server_gives_them() -> None:
    taking = Taking()
    content = [{"token": "안", "logprob": -0.5, "bytes": [1], "top_logprobs": []}, {"token": "녕", "logprob": -1}]
    ask(taking, ["1"], choice("안녕", logprobs={"content": content}))
    ask(taking, ["2"], choice("안녕", logprobs={"content": content}, token_ids=[5, 6]))  # vLLM
    ask(taking, ["3"], choice("안녕", logprobs={"content": [{**each, "id": 7} for each in content]}))  # llama.cpp
    as_text = [{**each, "token": f"token_id:{n}"} for n, each in enumerate(content)]
    ask(taking, ["4"], choice("안녕", logprobs={"content": as_text}))
    text = {
        "text": "안녕",
        "finish_reason": "stop",
        "logprobs": {"tokens": ["안", "녕"], "token_logprobs": [None, -1.0]},
    }
    taking.take(Api.COMPLETIONS, {"prompt": "5"}, {"choices": [text]})
    taking.take(Api.RESPONSES, {"input": "6"}, response_of("r", message("안녕")))
    ask(taking, ["7"], "안녕")
    both = {"tokens": ("안", "녕"), "logprobs": (-0.5, -1.0)}
    assert tokens_of(taking) == [
        {"token_ids": None, **both},
        {"token_ids": (5, 6), **both},
        {"token_ids": (7, 7), **both},
        {"token_ids": (0, 1), "tokens": ("token_id:0", "token_id:1"), "logprobs": (-0.5, -1.0)},
        {"token_ids": None, "tokens": ("안", "녕"), "logprobs": (None, -1.0)},
        {"token_ids": None, "tokens": ("안녕",), "logprobs": (-0.25,)},
        None,
    ]


def test_the_tokens_of_a_secret_are_not_kept_anywhere() -> None:
    taking = Taking()
    pieces = ["번호는 010", "-1234", "-5678"]
    content = [{"token": each, "logprob": -0.5, "top_logprobs": [{"token": each}]} for each in pieces]
    ask(taking, ["1"], choice("".join(pieces), logprobs={"content": content}))
    ask(taking, ["2"], choice("".join(pieces), finish_reason="length", logprobs={"content": content}))
    assert tokens_of(taking) == [None, None]
    assert not any(b"1234" in line.to_line() for line in taking.lines.values())


# ---------------------------------------------------------------- a property


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_however_conversations_are_interleaved_each_is_one_chat_also_over_restarts(data: st.DataObject) -> None:
    texts = st.text(alphabet='가나다 ab<>_1{}"\\\n', min_size=1, max_size=8).filter(str.strip)
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    told = {number: [f"{number}: {data.draw(texts)}"] for number in range(len(lengths))}
    order = data.draw(st.permutations([number for number, length in enumerate(lengths) for _ in range(length)]))
    taking = Taking()
    for number in order:
        answer = data.draw(texts)
        ask(taking, told[number], answer)
        told[number] += [answer, data.draw(texts)]
        if data.draw(st.booleans()):
            taking = taking.again()
    assert sorted(taking.said()) == sorted(each[:-1] for each in told.values())
