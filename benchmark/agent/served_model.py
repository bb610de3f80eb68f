"""A model behind a server with OpenAI's API: vLLM, `trl vllm-serve` (which runs vLLM), llama.cpp, `transformers serve`.

There are two ways to ask. Without a renderer, `/chat/completions` is sent messages and tools, and the server's template
writes the prompt and its parser reads the calls. Calls have ids of nine letters or digits there: Mistral's templates demand
such ids, and others take them. With a renderer, `/completions` is sent the ids of the prompt that it made, so the model is
asked in exactly the context that it was trained in; the calls are read here. docs/benchmark.md says what each way guarantees.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmark.agent.episodes import SERVERS_FAULT, Episode, Turn, Unreadable
from benchmark.agent.server_answers import choice_to_turn
from benchmark.agent.transformers_model import completion_to_turn, episode_to_prompt, prompt_fits
from core.chat_server import ChatServer, Refused, WrongShape, answer_to_choice, prompt_tokens
from core.errors import UserError, nearest
from data.chats import Message
from data.records import ToolSpec
from data.rendering.call_ids import NINE
from data.rendering.renderer import Renderer

_BYTES_THAT_FIT = 4096
"""A chat of so few bytes fits into any window, so nobody is asked."""


class ServerPolicy:
    """A served model. Every episode goes on at its own pace: `act` returns as soon as one answer is there.

    What may pass is tried again by core/chat_server.py. A refusal is told at once. An answer in another shape than the API's is
    one unreadable turn.

    Args:
        url: the API's base, such as http://127.0.0.1:8000/v1; `/v1` is added where there is no path.
        model: the name under which the server knows it; null takes the only one that it serves.
        renderer: makes the prompts, which are then sent as ids.
        concurrency: most requests at once.
        timeout_seconds: how long one answer may take.
        window: most tokens of a prompt and its answer; null asks the server.

    Raises:
        UserError: if there is no server, or it serves no such model.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        renderer: Renderer | None = None,
        api_key: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        concurrency: int = 16,
        timeout_seconds: float = 300.0,
        window: int | None = None,
    ) -> None:
        self.served: dict[str, int | None] = {}
        self.model = model or ""
        self._server = ChatServer(url, api_key=api_key, concurrency=concurrency, timeout_seconds=timeout_seconds)
        self.url, self.renderer = self._server.url, renderer
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        try:
            self.served = self._server.run(self._server.models())
            self.model = self._model_named(model)
        except Refused as refusal:
            self.close()
            raise self._told(refusal) from None
        except BaseException:
            self.close()
            raise
        told = self.served.get(self.model)
        self.window = window if window is not None else told

    def close(self) -> None:
        """Break off what is still asked, and close the connections."""
        self._server.close()

    def fits(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bool:
        """Whether the window holds the prompt of these messages and one more turn of the model.

        Without a renderer nobody here can count the tokens, so a chat that is not short is sent for one token.
        """
        if self.renderer is not None:
            return self.window is None or prompt_fits(self.renderer, messages, tools, self.window - self.max_new_tokens)
        body = self._chat_body(messages, tools, max_new_tokens=1)
        if len(json.dumps(body, ensure_ascii=False).encode()) + self.max_new_tokens <= _BYTES_THAT_FIT:
            return True
        try:
            used = prompt_tokens(self._server.run(self._server.post("/chat/completions", body)))
        except Refused as refusal:
            if refusal.is_too_long:
                return False
            if refusal.is_the_models:  # one token of a call is no call: the prompt was read, and fits
                return True
            raise self._told(refusal) from None
        except WrongShape:
            return True
        return self.window is None or used is None or used + self.max_new_tokens <= self.window

    def act(self, episodes: Sequence[Episode]) -> list[Turn | None]:
        """The turns that have come by now, at least one; None for the episodes whose answer is still awaited."""
        asking = {episode.attempt.key: partial(self._turn, episode) for episode in episodes}
        turns = self._server.first_of(asking)
        return [turns.get(episode.attempt.key) for episode in episodes]

    def forget(self, episode: Episode) -> None:
        """Nothing is kept for an ended episode."""

    async def _turn(self, episode: Episode) -> Turn:
        seed = episode.attempt.seed if self.temperature > 0 else None
        try:
            if self.renderer is None:
                return await self._chat_turn(episode, seed)
            return await self._exact_turn(self.renderer, episode, seed)
        except Refused as refusal:
            if refusal.is_the_models:
                return Unreadable("", f"unreadable turn: {refusal}")
            if refusal.is_too_long and episode.actions:
                return Unreadable("", f"no room in the model's window: {refusal}", ends=True)
            raise self._told(refusal) from None
        except WrongShape as error:
            return Unreadable("", f"{SERVERS_FAULT}answer has another shape than the API's: {error}")

    async def _chat_turn(self, episode: Episode, seed: int | None) -> Turn:
        body = self._chat_body(episode.messages, episode.task.tools)
        if seed is not None:
            body |= {"seed": seed, "top_p": 1.0}
        choice = answer_to_choice(await self._server.post("/chat/completions", body))
        return choice_to_turn(choice, tools=episode.task.tools, max_new_tokens=self.max_new_tokens)

    def _chat_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, max_new_tokens: int | None = None
    ) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [message_to_openai(message) for message in NINE.apply(messages)],
            **({"tools": [tool.model_dump() for tool in tools]} if tools else {}),
            "max_tokens": self.max_new_tokens if max_new_tokens is None else max_new_tokens,
            "temperature": self.temperature,
        }

    async def _exact_turn(self, renderer: Renderer, episode: Episode, seed: int | None) -> Turn:
        prompt = episode_to_prompt(renderer, episode, window=self.window, max_new_tokens=self.max_new_tokens)
        if isinstance(prompt, Unreadable):
            return prompt
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            **({} if seed is None else {"seed": seed}),
            # Servers fill what is not said from the model's generation_config.json or defaults of their own.
            **{"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0},
            **{"stop_token_ids": list(renderer.stop_ids), "skip_special_tokens": False, "return_token_ids": True},
        }
        answer = await self._server.post("/completions", body)
        used = prompt_tokens(answer)
        if used is not None and used != len(prompt):
            raise UserError(
                f"{self.url}: the server read {used} tokens where {len(prompt)} were sent, so it does not take prompts of ids "
                "as they are; leave out --tokenizer to send messages instead"
            )
        choice = answer_to_choice(answer)
        text, ids = choice.get("text"), choice.get("token_ids")
        is_cut = choice.get("finish_reason") == "length"
        words = len(renderer.tokenizer)
        if not isinstance(ids, list) or not ids or not all(type(each) is int and 0 <= each < words for each in ids):
            if not isinstance(text, str):
                raise WrongShape(
                    "neither 'choices.0.text' is a text nor 'choices.0.token_ids' a list of the tokenizer's ids"
                )
            ids = renderer.tokenizer.encode(text, add_special_tokens=False)
            if not is_cut and (not ids or ids[-1] not in renderer.stop_ids):
                ids.append(renderer.stop_ids[0])  # a text ends without its stop token
        return completion_to_turn(renderer, ids, prompt=prompt, tools=episode.task.tools, is_cut=is_cut)

    def _model_named(self, name: str | None) -> str:
        if name is not None:
            return name
        if len(self.served) == 1:
            return next(iter(self.served))
        known = (
            f"it serves {', '.join(sorted(self.served))}" if self.served else "the server does not tell what it serves"
        )
        raise UserError(f"--server {self.url}: which model? Name it with --model; {known}")

    def _told(self, refusal: Refused) -> UserError:
        """A refusal, for the person who can mend it."""
        where = f"{self.url} refuses with HTTP {refusal.status}: {refusal}"
        if refusal.status in (401, 403):
            return UserError(f"{where}. Is the right key in the environment variable that --api-key-env names?")
        if self.renderer is not None and refusal.status in (400, 422) and not refusal.is_too_long:
            return UserError(f"{where}. Not all servers take prompts of ids; leave out --tokenizer to send messages.")
        if self.served and self.model not in self.served:
            return UserError(f"{where}. It serves {', '.join(sorted(self.served))}.{nearest(self.model, self.served)}")
        if refusal.status == 404:
            return UserError(f"{where}. Is this the API's base, such as http://127.0.0.1:8000/v1?")
        if refusal.status < 300:
            return UserError(f"{self.url}: expected JSON, got: {refusal}. Is this the API's base, such as .../v1?")
        if refusal.is_too_long:
            return UserError(f"{where}. Give the model's window with --window, so that tasks beyond it are left out.")
        return UserError(where)


def message_to_openai(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API takes it: arguments are JSON text there."""
    said = message.to_template()
    for call in said.get("tool_calls", []):
        call["function"] = {
            **call["function"],
            "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
        }
    return said
