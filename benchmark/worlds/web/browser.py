"""What a browser makes of a page."""

from __future__ import annotations

from html.parser import HTMLParser

from pydantic import JsonValue


class Document(HTMLParser):
    """What a browser makes of a page: its title, its text by lines, links, and the form with what is filled in."""

    def __init__(self, source: str, address: str) -> None:
        super().__init__()
        self.address = address
        self.title = ""
        self.lines: list[str] = []
        self.links: dict[str, str] = {}
        """Label -> address."""
        self.fields: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        self.buttons: list[str] = []
        self._text: list[str] = []
        self._href = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a field, a button or a link, and start a new text."""
        given = {key: value or "" for key, value in attrs}
        if tag == "input":
            place = self.hidden if given.get("type") == "hidden" else self.fields
            place[given["name"]] = given["value"]
        elif tag == "button":
            self.buttons.append(given["value"])
        elif tag == "a":
            self._href = given["href"]
        if tag in ("title", "p", "tr", "a", "label", "button"):
            self._text = []

    def handle_data(self, data: str) -> None:
        """Gather text."""
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Put the gathered text where it belongs."""
        text = "".join(self._text)
        if tag == "title":
            self.title = text
        elif tag == "p":
            self.lines.append(text)
        elif tag == "td":
            self._text.append(" | ")
        elif tag == "tr":
            self.lines.append(text.removesuffix(" | "))
        elif tag == "a":
            self.links[text] = self._href

    @property
    def text(self) -> str:
        """The title and the text, one line each."""
        return "\n".join([self.title, *self.lines])

    def outline(self) -> dict[str, JsonValue]:
        """What can be done on the page; what is empty is left out."""
        return {
            "title": self.title,
            **({"links": list(self.links)} if self.links else {}),
            **({"fields": dict(self.fields)} if self.fields else {}),
            **({"buttons": list(self.buttons)} if self.buttons else {}),
        }
