"""What a site is made of: pages, their tables, links and forms."""

from __future__ import annotations

from dataclasses import dataclass, field

LOGIN, ACCOUNT, MAP = "/login", "/account", "/map"
LOGIN_BUTTON, SEND = "Log in", "Send"


@dataclass(frozen=True)
class Form:
    """What a page takes. Every field must be filled in; `ranges` says which are whole numbers, and from where to where."""

    fields: dict[str, str] = field(default_factory=dict)
    """Name -> value at the start."""
    buttons: tuple[str, ...] = (SEND,)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    is_kept_once: bool = False
    """A second sending takes the place of the first."""


@dataclass(frozen=True)
class Page:
    """One page. Its title is the last part of its first address."""

    lines: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    links: tuple[str, ...] = ()
    """Addresses; the label of a link is the title of its page."""
    form: Form | None = None
    is_private: bool = False
    confirms: bool = False
    """Opening it is already the deed, as with a link in a mail."""


Entry = dict[str, str]
"""What was sent: the fields by name, and the button that was pressed as `button`."""


def title_of(address: str) -> str:
    """The title of a page by its first address: the last part."""
    return address.rsplit("/", 1)[-1].replace("?page=", ", page ")
