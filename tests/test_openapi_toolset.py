"""Operations of OpenAPI documents as tools: how they are named and asked, and what each answer of a server is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openapi_pydantic")

from benchmark.worlds.own.arguments import check_call, schema_problem
from benchmark.worlds.own.sources import NamedCall, OpenApi, OpenApiSource, Reset
from benchmark.worlds.own.toolsets.openapi import OpenApiToolset
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.toolset import Hints, Place, ServersFault
from benchmark.worlds.tools import ToolError
from core.errors import UserError

SERVER = Path(__file__).parent / "support" / "odd_api.py"
COMMAND = ["{python}", "-S", str(SERVER), "{port}"]

DOCUMENT = """
openapi: 3.0.3
info: {title: Shop, version: "1"}
servers: [{url: https://elsewhere.example}]
paths:
  x-note: an extension
  /orders/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
    get:
      operationId: "shop.get order"
      summary: Get an order.
      description: With its items.
      parameters:
        - {name: tags, in: query, schema: {type: array, items: {type: string}}}
        - {name: flat, in: query, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: deep, in: query, style: deepObject, schema: {type: object}}
        - {name: since, in: query, description: First day., schema: {type: string, default: 2020-01-01}}
        - {name: X-Trace, in: header, schema: {type: string}}
        - {name: Authorization, in: header, schema: {type: string}}
        - {name: X-Key, in: header, required: true, schema: {type: string}}
        - $ref: '#/components/parameters/Limit'
    put:
      requestBody:
        required: true
        content:
          application/json:
            schema:
              allOf:
                - $ref: '#/components/schemas/Base'
                - {type: object, required: [count], properties: {count: {type: integer, minimum: 0, exclusiveMinimum: true}}}
  /orders:
    post:
      operationId: list
      requestBody: {content: {application/json: {schema: {type: array, items: {type: integer}}}}}
  /forms:
    post:
      operationId: form
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema: {type: object, properties: {a: {type: string}, b: {type: integer}}}
  /tree:
    post:
      operationId: tree
      requestBody: {required: true, content: {application/json: {schema: {$ref: 'parts/tree.yaml#/Node'}}}}
components:
  parameters:
    Limit: {name: limit, in: query, schema: {type: integer, nullable: true, enum: [1, 2]}}
  schemas:
    Base:
      type: object
      required: [id, made]
      properties:
        id: {type: string, nullable: true, example: x, xml: {name: y}}
        made: {type: string, readOnly: true}
        note: {type: string}
"""
NODE = "Node: {type: object, required: [name], properties: {name: {type: string}, inner: {$ref: '#/Node'}}}\n"


def write(folder: Path, document: str = DOCUMENT) -> None:
    (folder / "api.yaml").write_text(document, encoding="utf-8")
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "parts" / "tree.yaml").write_text(NODE)


def source(**more: Any) -> OpenApiSource:
    return OpenApiSource(openapi=OpenApi.model_validate({"file": "api.yaml", "command": COMMAND, **more}))


@contextmanager
def opened(folder: Path, place: dict[str, Any] | None = None, **more: Any) -> Iterator[OpenApiToolset]:
    toolset = source_to_toolset(source(**more), Place(folder=folder, **{"timeout_s": 20, **(place or {})}))
    assert isinstance(toolset, OpenApiToolset)
    try:
        toolset.open()
        yield toolset
    finally:
        toolset.close()


def asked(toolset: OpenApiToolset, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    check_call({tool.function.name: tool for tool in toolset.tools}, name, arguments)
    output = toolset.call(name, arguments).output
    assert isinstance(output, dict)
    return output


def test_operations_become_tools_with_one_flat_schema(tmp_path: Path) -> None:
    write(tmp_path)
    toolset = source_to_toolset(source(headers={"X-Key": "k"}), Place(folder=tmp_path))
    toolset.close()
    tools = {tool.function.name: tool.function for tool in toolset.tools}
    assert list(tools) == ["shop_get_order", "put_orders_id", "list", "form", "tree"]
    assert not any(map(schema_problem, toolset.tools))
    get = tools["shop_get_order"]
    assert get.description == "Get an order.\n\nWith its items." and get.parameters["required"] == ["id"]
    properties: Any = get.parameters["properties"]
    assert list(properties) == ["id", "tags", "flat", "deep", "since", "X-Trace", "limit"]
    assert properties["since"] == {"type": "string", "default": "2020-01-01", "description": "First day."}
    assert properties["limit"] == {"type": ["integer", "null"], "enum": [1, 2, None]}
    put = tools["put_orders_id"].parameters
    assert put == {
        "type": "object",
        "properties": {
            "path_id": {"type": "string"},
            "body_id": {"type": ["string", "null"]},
            "note": {"type": "string"},
            "count": {"type": "integer", "exclusiveMinimum": 0},
        },
        "required": ["path_id", "body_id", "count"],
        "additionalProperties": False,
    }
    assert tools["list"].parameters["properties"] == {"body": {"type": "array", "items": {"type": "integer"}}}
    node: Any = tools["tree"].parameters
    depth = 0
    while node:
        node, depth = node["properties"].get("inner"), depth + 1
    assert depth == 8
    assert toolset.hints["shop_get_order"] == Hints(True, False, True)
    assert toolset.hints["put_orders_id"] == Hints(False, False, True)


def test_arguments_go_where_the_document_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setenv("SHOP_KEY", "canary-5f1e")
    with opened(tmp_path, headers={"X-Key": {"env": "SHOP_KEY"}}, env={"KEY": {"env": "SHOP_KEY"}}) as toolset:
        get = {"id": "a/../ㄱ", "tags": ["x y", "&"], "flat": [1, 2], "deep": {"a": True}, "X-Trace": "t", "limit": 2}
        seen = asked(toolset, "shop_get_order", get)
        assert seen["method"] == "GET" and seen["body"] == ""
        assert seen["path"] == "/orders/a%2F..%2F%E3%84%B1?tags=x+y&tags=%26&flat=1%2C2&deep%5Ba%5D=true&limit=2"
        assert seen["headers"]["x-trace"] == "t" and seen["headers"]["x-key"] == "[hidden: SHOP_KEY]"
        assert asked(toolset, "shop_get_order", {"id": "..", "limit": None})["path"] == "/orders/%2E%2E"
        assert toolset.call("shop_get_order", {"id": ""}).error == "argument 'id' must not be empty"
        assert "not allowed" in str(toolset.call("shop_get_order", {"id": "a", "X-Trace": "a\r\nX-Admin: 1"}).error)
        put = asked(toolset, "put_orders_id", {"path_id": "p", "body_id": None, "count": 3})
        assert (put["path"], json.loads(put["body"])) == ("/orders/p", {"id": None, "count": 3})
        assert asked(toolset, "list", {"body": [1, 2]})["body"] == "[1,2]" and asked(toolset, "list", {})["body"] == ""
        form = asked(toolset, "form", {"a": "x y", "b": 2})
        assert form["body"] == "a=x+y&b=2" and form["headers"]["content-type"] == "application/x-www-form-urlencoded"
        tree = {"name": "a", "inner": {"name": "b"}}
        assert json.loads(asked(toolset, "tree", tree)["body"]) == tree
        with pytest.raises(ToolError, match=r"has no argument 'nam'. Did you mean 'name'"):
            asked(toolset, "tree", {"nam": "a"})
        assert toolset._server is not None and "canary" not in toolset._server.log


def plain(*names: str) -> str:
    paths = {f"/{name}": {"get": {"operationId": name}} for name in names}
    return json.dumps({"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": paths})


@pytest.mark.parametrize(
    "how, output, error",
    [
        ("nothing", "HTTP 204", None),
        ("picture", "[image/png, 6 bytes]", None),
        ("conflict", None, 'HTTP 409: {"detail":"taken"}'),
        ("broken", None, "HTTP 500: <h1>Oops</h1>"),
    ],
)
def test_what_a_server_answers_is_the_result(how: str, output: object, error: str | None, tmp_path: Path) -> None:
    write(tmp_path, plain(how))
    with opened(tmp_path) as toolset:
        result = toolset.call(how, {})
        assert (result.output, result.error) == (output, error)


@pytest.mark.parametrize(
    "how, fault",
    [
        ("crash", "crashed: python.* ended with exit code 4; it said: out of luck"),
        ("late", "late: late: no answer within 3 s"),
        ("elsewhere", "elsewhere: a redirect to http://127.0.0.1:1 was refused"),
        ("circle", "protocol: more than 5 redirects"),
        ("huge", "too_large: an answer of more than 8 MiB"),
        ("notjson", "garbled: an answer that says it is JSON"),
        ("garbled", "garbled: "),
        ("drops", "crashed: drops: Server disconnected"),
    ],
)
def test_what_cannot_be_read_is_the_servers_fault(how: str, fault: str, tmp_path: Path) -> None:
    write(tmp_path, plain(how))
    with opened(tmp_path, {"timeout_s": 3}) as toolset, pytest.raises(ServersFault, match=fault):
        toolset.call(how, {})


def test_a_redirect_on_the_same_server_is_followed(tmp_path: Path) -> None:
    write(tmp_path, plain("there"))
    with opened(tmp_path) as toolset:
        assert asked(toolset, "there", {})["path"] == "/echo?redirected=1"


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    write(tmp_path, plain("echo"))
    with pytest.raises(ServersFault, match=r"not_started: .*no port"), opened(tmp_path, command=[*COMMAND[:3], "0"]):
        pass


def test_a_shared_server_is_reset_as_world_yaml_says(tmp_path: Path) -> None:
    write(tmp_path, plain("echo", "conflict"))
    with opened(tmp_path, {"port": None}) as server:
        assert server._around.port
        for how, fault in [
            (Reset(post="/reset"), None),
            (Reset(post="/conflict"), "broke: reset: the server answered HTTP 409"),
            (Reset(call=NamedCall(name="echo")), None),
            (Reset(call=NamedCall(name="conflict")), "broke: reset by conflict: HTTP 409"),
            (Reset(command=["{python}", "-c", "raise SystemExit('no')"]), "broke: .*exit code 1; it said: no"),
            (Reset(command=["{python}", "-c", ""]), None),
        ]:
            more = {"command": None, "base_url": f"http://127.0.0.1:{server._around.port}"}
            with opened(tmp_path, {"reset": how}, **more) as shared:
                if fault is None:
                    shared.reset()
                else:
                    with pytest.raises(ServersFault, match=fault):
                        shared.reset()


@pytest.mark.parametrize(
    "change, words",
    [
        (("3.0.3", "2.0.0"), "field 'openapi': expected 3.0.x or 3.1.x, got '2.0.0'"),
        (("openapi: 3.0.3", 'swagger: "2.0"'), "Swagger 2.0, expected OpenAPI 3.0 or 3.1"),
        (("parts/tree.yaml#/Node", "http://127.0.0.1:9/x.yaml#/Node"), "POST /tree: .* never the network"),
        (("parts/tree.yaml#/Node", "../../../etc/hostname"), "points out of the folder"),
        (("parts/tree.yaml#/Node", "parts/tree.yaml#/Nod"), "points to nothing. Did you mean 'Node'"),
        (("parameters/Limit'", "parameters/Limits'"), "points to nothing. Did you mean 'Limit'"),
        (("openapi: 3.0.3", "openapi: [3"), "neither JSON nor YAML"),
    ],
)
def test_a_document_that_cannot_be_used_is_told(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    write(tmp_path, DOCUMENT.replace(*change))
    with pytest.raises(UserError, match=words):
        source_to_toolset(source(), Place(folder=tmp_path))


def test_operations_are_chosen_and_hosts_must_be_listed(tmp_path: Path) -> None:
    write(tmp_path)
    chosen = source(operations={"allow": ["*"], "deny": ["POST *", "shop.get *"]})
    assert [t.function.name for t in source_to_toolset(chosen, Place(folder=tmp_path)).tools] == ["put_orders_id"]
    with pytest.raises(UserError, match=r"no operation 'forms'. Did you mean 'form'"):
        source_to_toolset(source(operations={"allow": ["forms"]}), Place(folder=tmp_path))
    elsewhere = source(command=None, base_url="https://api.example.com")
    with pytest.raises(UserError, match=r"host 'api.example.com': only the loopback"):
        source_to_toolset(elsewhere, Place(folder=tmp_path))
    source_to_toolset(elsewhere, Place(folder=tmp_path, hosts=("api.example.com",))).close()
