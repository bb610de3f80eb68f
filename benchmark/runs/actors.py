"""Who acts in a run: models, served models and policies, by their labels; and what makes each of them what it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.agent.episodes import Invalid, Policy
from benchmark.agent.interventions import Rule
from benchmark.agent.policies import policy_named
from benchmark.agent.transformers_model import Dtype, TransformersPolicy, read_renderer
from core.errors import UserError
from core.files import file_sha256
from data.models import find_base, missing_model_check, model_files
from data.rendering.renderer import read_chat_template

if TYPE_CHECKING:
    from benchmark.agent.served_model import ServerPolicy
    from benchmark.agent.started_server import StartedServers

API_KEY_ENV = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Options:
    """What decides a record beside the model and the task."""

    max_steps: int = 12
    max_same_errors: int | None = None
    invalid: Invalid = "retry"
    advise: bool = False
    batch_size: int = 16
    max_new_tokens: int = 128
    temperature: float = 0.0
    sampling_seed: int = 0
    window: int | None = None
    dtype: Dtype = "auto"
    shots: int = 0
    """Records of training that are shown before each task."""
    examples_sha256: str | None = None
    """Of the file that they are taken from."""
    repeat_guard: bool = False
    user_server: str | None = None
    """Where a model is asked that plays the users of tasks."""
    user_model: str | None = None
    prove: int = 0
    """Tries from each state of a failed try that is proved (benchmark/runs/proving.py)."""
    prove_states: int = 0
    """At most so many states."""
    intervene: Rule | None = None
    """Where the expert takes a turn in the model's place (`benchmark headroom`)."""


@dataclass(frozen=True)
class Actor:
    """Who is to act: a model under transformers or behind a server started for it, a served one, or a policy."""

    label: str
    kind: Literal["model", "started", "server", "policy"]
    name: str
    server: str | None = None
    """Base URL of the server, for a served model."""
    tokenizer: str | None = None
    """Folder that its prompts are rendered from; null lets the server render them."""
    chat_template_path: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 300.0
    servers: StartedServers | None = field(default=None, repr=False)
    """What starts its server, for a model of this machine that is not run under transformers."""

    @property
    def has_weights(self) -> bool:
        """Whether its weights are here, to be hashed."""
        return self.kind in ("model", "started")

    @property
    def is_asked(self) -> bool:
        """Whether a server computes it."""
        return self.kind in ("server", "started")

    def identity(self) -> str:
        """A hash of all that makes the model; a server's weights cannot be seen, so it is its address and name."""
        if self.kind == "policy":
            return self.name
        if self.kind == "model":
            return model_sha256(self.name, self.chat_template_path)
        if self.servers is not None:  # how it is started decides, too: four bits, for one
            return json_sha256([self.servers.command, model_sha256(self.name, self.chat_template_path)])
        exact = model_sha256(self.tokenizer, self.chat_template_path) if self.tokenizer else None
        return json_sha256([self.server, self.name, exact])

    @contextmanager
    def acting(self, options: Options) -> Iterator[Policy]:
        """The policy, ready to act; at the end a server's connections are closed.

        Raises:
            UserError: if there is no such model, server or policy.
        """
        decoding: dict[str, Any] = {
            "max_new_tokens": options.max_new_tokens,
            "temperature": options.temperature,
            "window": options.window,
        }
        if self.kind == "policy":
            yield policy_named(self.name)
            return
        if self.kind == "model":
            yield TransformersPolicy.from_pretrained(
                self.name,
                dtype=options.dtype,
                chat_template_path=self.chat_template_path,
                batch_size=options.batch_size,
                **decoding,
            )
            return
        if self.servers is None:
            with closing(self._asking(str(self.server), self.name, self.tokenizer, options, decoding)) as policy:
                yield policy
            return
        with (
            self.servers.serving(self.name, self.label) as served,
            closing(self._asking(served.url, served.name, self.name, options, decoding)) as policy,
        ):
            yield policy

    def _asking(
        self, url: str, name: str, tokenizer: str | None, options: Options, decoding: dict[str, Any]
    ) -> ServerPolicy:
        from benchmark.agent.served_model import ServerPolicy  # noqa: PLC0415 - only where a server is asked

        template = self.chat_template_path
        return ServerPolicy(
            url,
            name,
            renderer=read_renderer(tokenizer, chat_template_path=template) if tokenizer else None,
            api_key=self.api_key,
            concurrency=options.batch_size,
            timeout_seconds=self.timeout_seconds,
            **decoding,
        )


def read_api_key(name: str) -> str | None:
    """The key in an environment variable, if there is one.

    Raises:
        UserError: if no HTTP header can hold it, or a variable that was named is not set; nothing of it is shown.
    """
    if name != API_KEY_ENV and name not in os.environ:
        raise UserError("--api-key-env: there is no such environment variable; give its name, not the key itself")
    key = os.environ.get(name, "").strip()  # a file that it was read from ends with a line break
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"--api-key-env {name}: the key in it holds characters that no HTTP header takes")
    return key or None


def make_actors(
    model: list[str] | None,
    policy: list[str] | None,
    label: list[str] | None,
    *,
    server: str | None,
    servers: StartedServers | None = None,
    suffix: str,
    **how: Any,
) -> list[Actor]:
    """Who is to act, each with a label of its own; one that is not given ends with `suffix`.

    Raises:
        UserError: if nobody is, a model is missing, or the labels do not fit.
    """
    if server is not None:
        from benchmark.agent.served_model import ServerPolicy  # noqa: PLC0415 - only where a server is asked
        from core.chat_server import check_url  # noqa: PLC0415 - as above

        server = check_url(server)
    if server is not None and not model:
        with closing(ServerPolicy(server, api_key=how["api_key"], timeout_seconds=how["timeout_seconds"])) as only:
            model = [only.model]
    kind_of_models: Literal["model", "started", "server"] = "model" if server is None else "server"
    if servers is not None:
        kind_of_models = "started"
    named: list[tuple[Literal["model", "started", "server", "policy"], str]] = [
        *((kind_of_models, name) for name in model or []),
        *(("policy", name) for name in policy or []),
    ]
    if not named:
        raise UserError("nothing to run: give --model, --server or --policy")
    labels = label or [Path(name).name + suffix for _, name in named]
    if len(labels) != len(named):
        raise UserError(f"{len(labels)} labels for {len(named)} models: give one --label for each, in order")
    if len(set(labels)) != len(labels):
        raise UserError(f"two models are called {max(labels, key=labels.count)!r}: give each its own --label")
    for name in labels:
        if not name or name.startswith(".") or "/" in name:
            raise UserError(f"--label {name!r}: expected the name of a folder, without '/'")
    for kind, name in named:
        if kind in ("model", "started"):
            missing_model_check(name)
        elif kind == "policy":
            policy_named(name)
    return [
        Actor(
            called,
            kind,
            name,
            server=server if kind == "server" else None,
            servers=servers if kind == "started" else None,
            **how,
        )
        for called, (kind, name) in zip(labels, named, strict=True)
    ]


def model_sha256(name: str, chat_template_path: str | None = None) -> str:
    """sha256 over weights, configs, tokenizer and template of a folder, and of an adapter's base; a hub id is its name."""
    base, adapter = find_base(name)
    digest = hashlib.sha256((read_chat_template(chat_template_path) if chat_template_path else "").encode())
    for source in filter(None, (base, adapter)):
        files = model_files(Path(source))
        for path in files:
            digest.update(f"{path.name} {file_sha256(path)}".encode())
        if not files:
            digest.update(source.encode())
    return digest.hexdigest()


def json_sha256(parts: object) -> str:
    """sha256 of a value's JSON text."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
