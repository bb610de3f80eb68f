"""A model's own chat template, rendered for every beginning of a chat without doing all of it again each time.

`ChatTemplate.render` is what `apply_chat_template(tokenize=False)` gives. Training needs that text for each assistant turn
twice, which is quadratic in turns. `Beginnings` gives the same texts at linear cost where the template allows it.

It takes the template apart at its loop over the messages: what stands before it, the loop's body, what stands after it.
In Jinja one pass of a loop sees the message, the loop's facts, the variables from before the loop, and namespaces; only
namespaces carry anything on to the next pass. So a pass is run once and remembered together with what it left in the
namespaces, and is used again for a longer beginning as long as the part before the loop left the same variables there. Where
a pass looks further than one message ahead, or asks how many there are, or where a template cannot be taken apart at all, it
is rendered whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, first_line
from data.rendering.control_tokens import Unrenderable
from data.rendering.watched import Loop, Watch, Watched, view

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from transformers import PreTrainedTokenizerFast

_SWITCHES = ("enable_thinking", "thinking", "preserve_thinking", "truncate_history_thinking", "clear_thinking")
"""What templates call the switches that decide how reasoning is shown."""
_TURNS = "messages_of_the_loop"
_LOOP = "loop"
_OF_A_DICT = frozenset(dir(dict))
_LOOP_FACTS = frozenset({"index0", "index", "first", "last", "previtem", "nextitem", "length"})


def read_chat_template(path: str | Path) -> str:
    """The text of a Jinja template file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the chat template cannot be read: {error}") from None


class ChatTemplate:
    """The chat template of a tokenizer, compiled once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        from transformers.utils import chat_template_utils  # noqa: PLC0415 - only needed with a model

        self.source: str = tokenizer.chat_template
        self.switches = [switch for switch in _SWITCHES if switch in self.source]
        self._variables: dict[str, Any] = {**tokenizer.special_tokens_map, "documents": None}
        # Versions before 5.23 hand reasoning on under the names that a chat has for it.
        self._alias_reasoning = getattr(chat_template_utils, "_alias_reasoning_fields", list)
        try:
            self._whole: Template = chat_template_utils._compile_jinja_template(self.source)
        except Exception as error:  # a template may be broken in any way; whichever it is, nothing can be shown
            raise Unrenderable(f"the template cannot be compiled: {first_line(error)}") from None
        self._parts = _take_apart(_quick_sandbox(self._whole.environment), self.source)

    @property
    def is_taken_apart(self) -> bool:
        """Whether `beginnings` costs no more than its new messages."""
        return self._parts is not None

    def render(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], *, generate: bool, **switches: Any
    ) -> str:
        """The text of a chat; `generate` adds the generation prompt.

        Raises:
            Unrenderable: if the template raises.
        """
        variables = self._variables_of(self._alias_reasoning(messages), tools, generate) | switches
        try:
            return self._whole.render(variables)
        except Exception as error:  # a template may raise anything; whatever it is, the chat cannot be shown
            raise Unrenderable(f"the template refuses it: {first_line(error)}") from None

    def try_to_render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        *,
        generate: bool = False,
        **switches: Any,
    ) -> str | None:
        """The text of a chat, or None where the template refuses it."""
        try:
            return self.render(messages, tools, generate=generate, **switches)
        except Unrenderable:
            return None

    def beginnings(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> Beginnings:
        """The texts of all beginnings of a chat."""
        return Beginnings(self, self._alias_reasoning(messages), tools)

    def _variables_of(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], generate: bool
    ) -> dict[str, Any]:
        return {
            "messages": messages,
            "tools": list(tools) or None,
            "add_generation_prompt": generate,
            **self._variables,
        }


@dataclass(frozen=True)
class _Parts:
    """A template taken apart at its loop over the messages."""

    before: Template
    body: Template
    after: Template
    message: str
    """Name of the loop's variable."""
    body_reads_generate: bool
    before_reads_generate: bool


@dataclass
class _Chain:
    """Passes that are the same for all beginnings whose part before the loop left `state`."""

    state: dict[str, Any]
    generate: bool
    passes: list[list[dict[str, Any]]] = field(default_factory=list)
    """What each pass left in the namespaces."""
    ends: list[bool] = field(default_factory=list)
    """Whether each pass is the same where its message is the last one: it did not ask."""
    text: list[str] = field(default_factory=lambda: [""])
    """`text[k]`: what all passes before pass k wrote."""

    def add(self, text: str, namespaces: list[Any], *, ends: bool) -> None:
        """Remember the next pass."""
        self.ends.append(ends)
        self.passes.append([_content(namespace) for namespace in namespaces])
        self.text.append(self.text[-1] + text)


class Beginnings:
    """Texts of the first messages of one chat, for any number of them."""

    def __init__(
        self, template: ChatTemplate, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]
    ) -> None:
        self._template, self._messages, self._tools = template, list(messages), tools
        self._chains: list[_Chain] = []
        self._whole = template._parts is None
        self._start: _Start | None = None

    def text(self, count: int, *, generate: bool) -> str:
        """The text of the first `count` messages; `generate` adds the generation prompt.

        Raises:
            Unrenderable: if the template raises.
        """
        if not self._whole:
            try:
                return self._text(count, generate)
            except _CannotBeTakenApart:
                self._template._parts = None  # it would be tried in vain for each chat
                self._whole = True
            except Exception:  # a template may raise anything; rendering it whole says what
                self._whole = True
        return self._template.render(self._messages[:count], self._tools, generate=generate)

    def text_with(self, count: int, last: dict[str, Any]) -> str:
        """The text of the first `count` messages where `last` stands in the place of the last of them.

        Raises:
            Unrenderable: if the template raises.
        """
        messages = [*self._messages[: count - 1], *self._template._alias_reasoning([last])]
        if not self._whole:
            try:
                text = self._text_with(messages)
            except Exception:  # a template may raise anything; rendering it whole says what
                text = None
            if text is not None:
                return text
        return self._template.render(messages, self._tools, generate=False)

    def _text_with(self, messages: list[dict[str, Any]]) -> str | None:
        """As above, from the passes that know nothing of the last message, if there are such."""
        parts = self._template._parts
        assert parts is not None
        start = self._begin(messages, False)
        chain = self._chain(start.state, not parts.body_reads_generate)
        last = len(messages) - start.offset - 1
        if last < 0 or len(chain.passes) < last:
            return None
        k = last if last == 0 or chain.ends[last - 1] else last - 1
        shown = Watched(messages, start.watch, 0)
        turns = Watched(messages[start.offset :], start.watch, start.offset)
        variables = start.variables_for(shown) | {"add_generation_prompt": False, _TURNS: turns}
        _restore(start.namespaces, chain.passes[k - 1] if k else start.contents, shown)
        passes = [self._pass(variables, turns, at, start.watch) for at in range(k, last + 1)]
        return start.text + chain.text[k] + "".join(passes) + self._run(parts.after, variables)

    def _text(self, count: int, generate: bool) -> str:
        parts = self._template._parts
        assert parts is not None
        start = self._started(count, generate)
        namespaces, watch = start.namespaces, start.watch
        shown = Watched(self._messages[:count], watch, 0)
        turns = Watched(self._messages[start.offset : count], watch, start.offset)
        variables = start.variables_for(shown) | {"add_generation_prompt": generate, _TURNS: turns}
        if count == start.offset:
            _restore(namespaces, start.contents, shown)
            return start.text + self._run(parts.after, variables)
        chain = self._chain(start.state, generate or not parts.body_reads_generate)
        last = count - start.offset - 1
        while len(chain.passes) < last:
            k = len(chain.passes)
            _restore(namespaces, chain.passes[k - 1] if k else start.contents, shown)
            watch.furthest = 0
            text = self._pass(variables, turns, k, watch)
            if watch.furthest > start.offset + k + 1:
                raise _CannotBeTakenApart
            chain.add(text, namespaces, ends=watch.furthest <= start.offset + k)
        if len(chain.passes) > last and chain.ends[last]:
            _restore(namespaces, chain.passes[last], shown)
            return start.text + chain.text[last + 1] + self._run(parts.after, variables)
        _restore(namespaces, chain.passes[last - 1] if last else start.contents, shown)
        watch.furthest = 0
        text = self._pass(variables, turns, last, watch)
        if watch.furthest <= start.offset + last and len(chain.passes) == last:
            # It did not ask whether it is the last one, so it is the same where others follow.
            chain.add(text, namespaces, ends=True)
        return start.text + chain.text[last] + text + self._run(parts.after, variables)

    def _started(self, count: int, generate: bool) -> _Start:
        """The part before the loop, run for the first `count` messages; or an earlier run that would be no other one."""
        parts = self._template._parts
        assert parts is not None
        known = self._start
        if (
            known is not None
            and count > known.looked_at
            and (known.generate == generate or not parts.before_reads_generate)
        ):
            return known
        start = self._begin(self._messages[:count], generate)
        # Not where it asked for a message that is not there yet; and a macro may hold on to the messages of its own run.
        self._start = None if start.looked_at >= count or _holds_macro(start.variables) else start
        return start

    def _begin(self, messages: list[dict[str, Any]], generate: bool) -> _Start:
        """Run the part before the loop."""
        parts = self._template._parts
        assert parts is not None
        watch = Watch()
        shown = Watched(messages, watch, 0)
        context = parts.before.new_context(self._template._variables_of(shown, self._tools, generate))
        text = "".join(parts.before.root_render_func(context))
        looked_at = watch.furthest
        turns = context.vars.get(_TURNS)
        if not isinstance(turns, Watched) or list.__len__(turns) != len(messages) - turns.offset:
            raise _CannotBeTakenApart
        namespaces: list[Any] = []
        state = {name: _state_of(value, namespaces) for name, value in context.vars.items() if name != _TURNS}
        state[_TURNS] = turns.offset
        contents = [_content(namespace) for namespace in namespaces]
        return _Start(text, context.get_all(), turns.offset, state, namespaces, contents, watch, looked_at, generate)

    def _chain(self, state: dict[str, Any], generate: bool) -> _Chain:
        for chain in self._chains:
            if chain.generate == generate and _same(chain.state, state):
                return chain
        self._chains = [*self._chains[-3:], _Chain(state, generate)]
        return self._chains[-1]

    def _pass(self, variables: dict[str, Any], turns: Watched, k: int, watch: Watch) -> str:
        parts = self._template._parts
        assert parts is not None
        loop = Loop(turns, k, watch, parts.body.environment)
        return self._run(parts.body, {**variables, parts.message: list.__getitem__(turns, k), _LOOP: loop})

    @staticmethod
    def _run(template: Template, variables: dict[str, Any]) -> str:
        return "".join(template.root_render_func(template.new_context(variables, shared=True)))


@dataclass
class _Start:
    """What the part of a template before its loop has left."""

    text: str
    variables: dict[str, Any]
    offset: int
    """Index of the loop's first message."""
    state: dict[str, Any]
    namespaces: list[Any]
    contents: list[dict[str, Any]]
    watch: Watch
    looked_at: int
    """Index of the furthest message that was looked at: with more messages it would have run just so."""
    generate: bool

    def __post_init__(self) -> None:
        self._views = [name for name, value in self.variables.items() if type(value) is Watched]

    def variables_for(self, shown: Watched) -> dict[str, Any]:
        """The variables where the messages are those of `shown`."""
        return self.variables | {name: view(self.variables[name], shown) for name in self._views}


class _CannotBeTakenApart(Exception):
    """This template needs more than one pass can be given; it is rendered whole."""


def _quick_sandbox(environment: Environment) -> Environment:
    """The same sandbox with short ways for what templates do most: keys of messages, values in namespaces, loop facts, tojson.

    The first three cannot reach anything that the sandbox guards, so its checks are left out for them alone.
    """
    from jinja2.runtime import LoopContext  # noqa: PLC0415 - only needed with a model
    from jinja2.utils import Namespace  # noqa: PLC0415 - as above

    class QuickSandbox(type(environment)):  # type: ignore[misc] # the sandbox that transformers chose
        def getattr(self, obj: Any, attribute: str) -> Any:
            if type(obj) is dict:
                if attribute in obj and attribute not in _OF_A_DICT:
                    return obj[attribute]
            elif isinstance(obj, Namespace) and not attribute.startswith("_"):
                content = obj._Namespace__attrs
                if attribute in content:
                    return content[attribute]
            elif attribute in _LOOP_FACTS and isinstance(obj, Loop | LoopContext):
                return getattr(obj, attribute)
            return super().getattr(obj, attribute)

    quick = environment.overlay()
    quick.__class__ = QuickSandbox
    to_json = environment.filters["tojson"]
    written: dict[int, tuple[Any, str]] = {}

    def tojson(value: Any, **options: Any) -> str:
        # The same tools and arguments are written once for each beginning; holding on to them keeps their ids theirs.
        if options or not isinstance(value, dict):
            return str(to_json(value, **options))
        known = written.get(id(value))
        if known is None or known[0] is not value:
            if len(written) > 1000:
                written.clear()
            known = written[id(value)] = (value, to_json(value))
        return known[1]

    quick.filters = {**environment.filters, "tojson": tojson}
    return quick


def _take_apart(environment: Environment, source: str) -> _Parts | None:
    """The template at its last loop on the outermost level, or None where that cannot be the loop over the messages."""
    from jinja2 import Template, TemplateSyntaxError, nodes  # noqa: PLC0415 - only needed with a model

    tree = environment.parse(source)
    places = [at for at, node in enumerate(tree.body) if isinstance(node, nodes.For)]
    if not places:
        return None
    loop = tree.body[places[-1]]
    assert isinstance(loop, nodes.For)
    if loop.recursive or loop.test or loop.else_ or not isinstance(loop.target, nodes.Name):
        return None
    take = nodes.Assign(nodes.Name(_TURNS, "store"), loop.iter)

    def reads_generate(body: Sequence[Any]) -> bool:
        names = (node.name for part in body for node in _with_descendants(part, nodes.Name))
        return "add_generation_prompt" in names

    def compiled(body: list[Any]) -> Template:
        part = nodes.Template(body, lineno=1)
        part.set_lineno(1).set_environment(environment)
        return Template.from_code(environment, environment.compile(part), environment.make_globals(None))

    try:
        return _Parts(
            compiled([*tree.body[: places[-1]], take]),
            compiled(loop.body),
            compiled(tree.body[places[-1] + 1 :]),
            loop.target.name,
            reads_generate(loop.body),
            reads_generate(tree.body[: places[-1]]),
        )
    except (TemplateSyntaxError, SyntaxError):  # `break` or `continue` belong to the loop
        return None


def _with_descendants(node: Any, kind: Any) -> Iterator[Any]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)


def _state_of(value: Any, namespaces: list[Any]) -> Any:
    """What a variable holds, so that two can be compared; namespaces are collected on the way."""
    from jinja2.runtime import Macro  # noqa: PLC0415 - only needed with a model
    from jinja2.utils import Namespace  # noqa: PLC0415 - as above

    if isinstance(value, Namespace):
        namespaces.append(value)
        return {name: _state_of(item, namespaces) for name, item in _content(value).items()}
    if isinstance(value, Watched):
        return ("messages", value.offset)
    if isinstance(value, Macro):
        return ("macro", value.name)  # the same code; what it reads are these variables
    return value


def _holds_macro(variables: dict[str, Any]) -> bool:
    from jinja2.runtime import Macro  # noqa: PLC0415 - only needed with a model

    return any(isinstance(value, Macro) for value in variables.values())


def _content(namespace: Any) -> dict[str, Any]:
    return dict(namespace._Namespace__attrs)


def _restore(namespaces: list[Any], contents: list[dict[str, Any]], shown: Watched) -> None:
    """Give namespaces back what they held; messages in them become those of `shown`, which may be more."""
    for namespace, content in zip(namespaces, contents, strict=True):
        views = {name: view(value, shown) for name, value in content.items() if type(value) is Watched}
        namespace._Namespace__attrs = content | views


def _same(one: Any, other: Any) -> bool:
    """Equal, and 1 is not true."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(item, other[name]) for name, item in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
