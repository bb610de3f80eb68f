"""What stands in an assistant's text beside its words: blocks of calls end where their JSON ends."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.rendering.assistant_text import tagged_blocks

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["</tool_call>", "<tool_call>", "'", '\\"}', "끝"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES), min_size=1, max_size=3), st.sampled_from(["\n", "", " "]))
def test_every_json_between_tags_comes_back_whole(values: list[object], gap: str) -> None:
    for spell in (json.dumps, lambda value: json.dumps(value, ensure_ascii=False), repr):
        written = [spell(value) for value in values]
        text = "말 " + gap.join(f"<tool_call>{gap}{body}{gap}</tool_call>" for body in written) + " after"
        blocks = tagged_blocks(text)
        assert [block.body for block in blocks] == written
        assert (text[: blocks[0].start], text[blocks[-1].end :]) == ("말 ", " after")


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ("<tool_call>{}", ["{}"]),  # nobody closed it, and it is whole
        ("<tool_call>{}\n<tool_call>[1]</tool_call>", ["{}", "[1]"]),
        ("<tool_call>{</tool_call>", ["{"]),
        ("<tool_call>f(1)</tool_call>", ["f(1)"]),
        ('<tool_call>{"a": 1}} </tool_call>', ['{"a": 1}}']),
        ('<tool_call>{"a": "x</tool_call>', ['{"a": "x']),
        ('<tool_call>{"a": 1', []),
        ("<tool_call>{} and words", []),
        ("</tool_call>", []),
        ("no tag", []),
    ],
)
def test_a_body_that_is_no_whole_json_ends_at_its_tag(text: str, bodies: list[str]) -> None:
    assert [block.body for block in tagged_blocks(text)] == bodies


def test_a_text_of_many_broken_blocks_is_read_once() -> None:
    began = time.process_time()
    assert len(tagged_blocks("<tool_call>{</tool_call>" * 50_000)) == 50_000
    assert time.process_time() - began < 2
