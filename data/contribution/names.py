"""Home folders, user names and host names out of the logs of somebody's own machine.

Such a name has no shape of its own. It is learned where a log gives it away (a home folder, a shell's prompt, `whoami`, an
owner that `ls -l` lists, `ssh user@host`, `uname -a`) and then replaced wherever it stands in the session: `/home/mina/app`
becomes `<HOME_1>/app`, `mina` alone `<USER_1>`, her machine `<HOST_1>`. One name has one number, in all chats of a session.
Names that everybody's machines have (`root`, `ubuntu`, `localhost`) say nothing of anybody and stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_NAME = r"[^\W\d_][\w.-]*|_?[\w][\w.-]*"
_HOME = re.compile(
    rf"(?P<home>(?:/mnt/[a-z]|/[a-z])?/(?:home|Users)/(?P<unix>{_NAME})"
    r"|[A-Za-z]:(?:\\+|/)Users(?:\\+|/)(?P<windows>[\w.-]+(?: [\w.-]+)?(?=[\\/])|[\w.-]+))"
)
_PROMPT = re.compile(
    r"(?m)(?:^|[\s(\[])(?P<user>[a-z_][\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*)(?=:[~/]|[: ][~/]?[\w./~-]* ?[$#%](?:\s|$))"
)
_SSH = re.compile(r"\b(?:ssh|scp|sftp|rsync)\b[^\n;|&]*?[\s'\"](?P<user>[A-Za-z_][\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*)")
_LISTED = re.compile(r"(?m)^[bcdlps-][rwxsStT-]{9}[@+.]?\s+\d+\s+(?P<user>\S+)\s+\S+\s+\d")
_ID = re.compile(r"\buid=\d+\((?P<user>[^)\s]+)\)")
_UNAME = re.compile(r"\b(?:Linux|Darwin|FreeBSD) (?P<host>[A-Za-z0-9][\w.-]*) \d+\.\d+")
_LOCAL = re.compile(r"(?<![\w.@/-])(?P<host>[A-Za-z0-9][\w-]*(?:\.local|\.lan|\.localdomain))\b(?!\.\w|\()")
_ASSIGNED = re.compile(
    r"(?m)(?:^|[\s;{,\"'])(?:(?:USER|LOGNAME|USERNAME)[\"']?[=:]\s*[\"']?(?P<user>[\w.-]+)"
    r"|(?:HOSTNAME|COMPUTERNAME|[Hh]ost ?name|Static hostname)[\"']?\s*[=:]\s*[\"']?(?P<host>[A-Za-z0-9][\w.-]*))"
)
_ALL = (_PROMPT, _SSH, _LISTED, _ID, _UNAME, _LOCAL, _ASSIGNED)
_ASKED = re.compile(r"\s*(?:sudo )?(?P<what>whoami|id -un|logname|hostname(?: -[sf])?|uname -n)\s*\Z")
_WORD = re.compile(r"\s*(?P<word>[\w.-]{2,64})\s*\Z")

_EVERYBODYS = """
    root user users username admin administrator ubuntu debian centos fedora ec2-user runner node app dev developer test tester
    testuser guest agent public shared default all-users me you name your-name yourname home nobody daemon staff wheel www-data
    vscode codespace jovyan git github hf sandbox work workspace localhost local host hostname server example none null true
    false unknown string openhands linuxbrew docker container jenkins build postgres mysql redis nginx airflow data
"""
EVERYBODYS = frozenset(_EVERYBODYS.split())
"""Names that say nothing of anybody."""
_PUBLIC_HOSTS = re.compile(r"(?:.*\.)?(?:github|gitlab|huggingface|bitbucket|example)\.(?:com|org|net|co)\Z")
_SHORTEST = 3


def texts_in(value: Any) -> Iterator[str]:
    """All texts of a JSON value; keys are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


@dataclass
class Names:
    """The names that a session gives away."""

    users: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    """How many names were replaced, by kind."""

    @classmethod
    def told_by(cls, texts: Iterable[str], answers: Iterable[tuple[str, str]] = ()) -> Names:
        """The names in texts. `answers` are commands with what they printed."""
        names = cls()
        names.learn(texts, answers)
        return names

    def learn(self, texts: Iterable[str], answers: Iterable[tuple[str, str]] = ()) -> None:
        """Add the names that more of the session gives away."""
        for text in texts:
            for home in _HOME.finditer(text):
                self._learn("users", home["unix"] or home["windows"])
            for pattern in _ALL:
                for match in pattern.finditer(text):
                    told = match.groupdict()
                    if (told.get("user") or "").lower() == "git":
                        continue
                    self._learn("users", told.get("user"))
                    self._learn("hosts", told.get("host"))
        for command, printed in answers:
            asked, word = _ASKED.match(command), _WORD.match(printed)
            if asked and word:
                self._learn("hosts" if "host" in asked["what"] or asked["what"][-2:] == "-n" else "users", word["word"])

    def _learn(self, where: str, name: str | None) -> None:
        name = (name or "").rstrip(".")
        known: list[str] = getattr(self, where)
        if len(name) < _SHORTEST or name.lower() in EVERYBODYS or name.isdigit() or _PUBLIC_HOSTS.match(name.lower()):
            return
        if name not in self.users and name not in self.hosts:
            known.append(name)

    def __bool__(self) -> bool:
        return bool(self.users or self.hosts)

    def without(self, value: Any) -> Any:
        """A JSON value with placeholders in the place of names, in its texts and the keys of its objects."""
        if isinstance(value, str):
            return self._replaced(value)
        if isinstance(value, dict):
            return {self._replaced(key): self.without(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.without(item) for item in value]
        return value

    def _replaced(self, text: str) -> str:
        def home(match: re.Match[str]) -> str:
            name = (match["unix"] or match["windows"]).rstrip(".")
            if name not in self.users:
                return match[0]
            self.found["HOME"] += 1
            left = match[0][match[0].rindex(name) + len(name) :]
            return f"<HOME_{self.users.index(name) + 1}>{left}"

        text = _HOME.sub(home, text)
        for kind, names in (("HOST", self.hosts), ("USER", self.users)):
            for name in sorted(names, key=len, reverse=True):
                if name not in text:
                    continue
                word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])")
                text, count = word.subn(f"<{kind}_{names.index(name) + 1}>", text)
                self.found[kind] += count
        return text
