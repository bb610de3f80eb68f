"""The shop's services by GraphQL: parsed, checked and carried out by graphql-core, https://spec.graphql.org."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import JsonValue

from benchmark.worlds.api.requests import Answer, Refusal, text_of

if TYPE_CHECKING:
    from graphql import GraphQLSchema

_MOST_QUERY_TOKENS, _MOST_QUERY_DEPTH = 300, 12
SCHEMA = """\
type Query {
  customer(name: String!): Customer
  order(id: ID!): Order
  orders(after: String): OrderPage
}
type Mutation {
  setCity(order: ID!, city: String!): Order
  createOrder(customer: String!, item: String!, key: String!): Order
  sendMessage(to: String!, text: String!, key: String!): Message
}
type Customer { name: String! city: String! code: String! orders: [Order!] }
type Order { id: ID! item: String! city: String! customer: Customer }
type OrderPage { orders: [Order!]! next: String }
type Message { id: ID! to: String! text: String! }
"""


class Stock(Protocol):
    """What a query asks of the shop: rows of its tables, by their keys and by the ids that they have now."""

    crossings: int
    is_broken: bool

    @property
    def tables(self) -> dict[str, dict[str, dict[str, str]]]: ...

    def key_of(self, table: str, named: str) -> str: ...

    def id_of(self, table: str, key: str) -> str: ...

    def page_of(self, table: str, cursor: str) -> tuple[list[dict[str, str]], str | None]: ...

    def change(self, table: str, named: str, change: dict[str, str]) -> Answer: ...

    def add(self, table: str, row: dict[str, str]) -> str: ...


def answer_query(shop: Stock, query: str) -> Answer:
    """What the shop answers to a query or a mutation; errors beside the data where a service is broken.

    Raises:
        Refusal: the query is no GraphQL, or cannot be carried out.
    """
    from graphql import GraphQLError, execute_sync, parse, validate  # noqa: PLC0415 - few tasks need it

    depth = deepest = 0
    for character in query:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    if deepest > _MOST_QUERY_DEPTH:  # before a parser that calls itself for each level
        raise Refusal(400, f"the query is nested more than {_MOST_QUERY_DEPTH} deep")
    try:
        document = parse(query, max_tokens=_MOST_QUERY_TOKENS)
        errors = validate(_schema(), document, max_errors=3)
    except GraphQLError as error:
        errors = [error]
    if errors:
        raise Refusal(400, "; ".join(error.message for error in errors))
    result = execute_sync(_schema(), document, _Graph(shop))
    errors = result.errors or []
    if errors and not shop.is_broken:
        if isinstance(errors[0].original_error, Refusal):
            raise errors[0].original_error
        raise Refusal(422, "; ".join(error.message for error in errors))
    told: list[JsonValue] = [{"message": error.message, "path": list(error.path or ())} for error in errors]
    data: JsonValue = result.data
    return Answer({"data": data, "errors": told} if told else {"data": data})


class _Graph:
    """The root of GraphQL's types: what each field gives."""

    def __init__(self, shop: Stock) -> None:
        self._shop = shop

    def customer(self, info: Any, name: str) -> dict[str, Any]:
        """A customer by name."""
        return self._customer(self._shop.key_of("customers", name))

    def order(self, info: Any, id: str) -> dict[str, Any]:
        """An order by id."""
        return self._order(self._shop.key_of("orders", id))

    def orders(self, info: Any, after: str = "") -> dict[str, Any]:
        """A page of orders."""
        rows, following = self._shop.page_of("orders", after)
        return {"orders": [self._order(row["id"]) for row in rows], "next": following}

    def setCity(self, info: Any, order: str, city: str) -> dict[str, Any]:
        """Change an order's city."""
        self._shop.change("orders", order, {"city": text_of({"city": city}, "city")})
        return self._order(self._shop.key_of("orders", order))

    def createOrder(self, info: Any, customer: str, item: str, key: str) -> dict[str, Any]:
        """Create an order once for a key."""
        row = {"customer": self._shop.key_of("customers", customer), "item": text_of({"item": item}, "item")}
        return self._order(self._shop.add("orders", {**row, "city": "", "key": key}))

    def sendMessage(self, info: Any, to: str, text: str, key: str) -> dict[str, str]:
        """Send a message once for a key."""
        row = {"to": text_of({"to": to}, "to"), "text": text_of({"text": text}, "text"), "key": key}
        return self._shop.tables["messages"][self._shop.add("messages", row)]

    def _customer(self, key: str) -> dict[str, Any]:
        def orders(info: Any) -> list[dict[str, Any]]:
            self._cross("orders")
            return [self._order(row["id"]) for row in self._shop.tables["orders"].values() if row["customer"] == key]

        row = self._shop.tables["customers"][key]
        return {"name": self._shop.id_of("customers", key), "city": row["city"], "code": row["code"], "orders": orders}

    def _order(self, key: str) -> dict[str, Any]:
        row = self._shop.tables["orders"][key]

        def customer(info: Any) -> dict[str, Any] | None:
            self._cross("customers")
            return self._customer(row["customer"]) if row["customer"] in self._shop.tables["customers"] else None

        return {**row, "id": self._shop.id_of("orders", key), "customer": customer}

    def _cross(self, service: str) -> None:
        self._shop.crossings += 1
        if self._shop.is_broken and self._shop.crossings == 1:
            raise Refusal(503, f"the service {service} did not answer")


@cache
def _schema() -> GraphQLSchema:
    from graphql import build_schema  # noqa: PLC0415 - few tasks need it

    return build_schema(SCHEMA)
