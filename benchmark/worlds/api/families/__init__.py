"""The families of tasks of the API world, a file a subject. The order decides which tasks a seed gives."""

from __future__ import annotations

from benchmark.worlds.api.families import graph, orders, recall, shop
from benchmark.worlds.api.families.family import ApiFamily

FAMILIES: tuple[ApiFamily, ...] = (
    orders.CREATE,
    orders.UPDATE,
    orders.LOGIN_CREATE,
    orders.FIND_UPDATE,
    orders.REORDER,
    orders.LOGIN_FIND_UPDATE,
    orders.PAGES,
    orders.TWO,
    shop.CHARGE,
    graph.GRAPH_CITY,
    shop.REFRESH_CHARGE,
    shop.STOCK,
    shop.PROFILE,
    shop.MESSAGE_THREE,
    graph.GRAPH_MOVE,
    shop.EXCHANGE_CHARGE,
    shop.CHEAPER,
    recall.RECALL_TOLD,
    recall.RECALL,
    recall.REPORT,
    shop.REFUND,
    graph.GRAPH_PAGES,
    shop.CHECKOUT,
    shop.QUOTA,
    shop.CLOSE_ACCOUNT,
    graph.GRAPH_ORDER,
    graph.GRAPH_FOLLOW,
    shop.SWAP,
    recall.REFRESH_REPORT,
    shop.EXCHANGE_REFUND,
    recall.RECALL_CHARGE,
)
