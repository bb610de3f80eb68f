"""The families of tasks of the web world, a file a subject. The order decides which tasks a seed gives."""

from __future__ import annotations

from benchmark.worlds.web.families import forms, logins, recall, votes
from benchmark.worlds.web.families.family import WebFamily

FAMILIES: tuple[WebFamily, ...] = (
    votes.CONFIRM,
    votes.VOTE_OPEN,
    votes.VOTE,
    votes.CONFIRM_THREE,
    votes.LINKS_VOTE,
    forms.SIGN_UP,
    forms.ORDER,
    forms.PRICE,
    votes.CHEAPEST,
    forms.PAGES,
    recall.RECALL,
    logins.LOGIN_PROFILE,
    logins.LOGIN_MESSAGE,
    forms.COLLECT,
    logins.LOGIN_RESTOCK,
    forms.LINKS_SIGN_UP,
    logins.LOGIN_VOTE,
    forms.RECORD,
    recall.RECALL_LOGIN,
)
