"""Secrets and personal data: found where they are, left alone where they are not, and gone from every later output."""

from __future__ import annotations

import ast
import base64
import html
import json
import os
import random
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data.contribution.patterns import our_patterns
from data.contribution.redaction import detect_secrets_finder, findings, redact_value
from data.contribution.redaction import redact_text as redact
from data.contribution.spellings import MAX_CHARACTERS
from support.commands import Run
from support.paths import ROOT
from support.planted_secrets import HEX, LETTERS, OTHER_NAMES, SECRETS, SPELLINGS, needles
from support.record_samples import action, record, with_metadata

# Made up here: each has the shape of the real thing and belongs to nobody.
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7Zq\nk0b+/x9f=\n-----END RSA PRIVATE KEY-----"
FOUND = [
    ("HF_TOKEN", "hf_" + "aBcD" * 8 + "eF"),
    ("API_KEY", "sk-" + "T3BlbkFJ" * 6),
    ("API_KEY", "sk-proj-" + "aB3_-x" * 12),
    ("ANTHROPIC_KEY", "sk-ant-api03-" + "aB3_-x" * 12),
    ("GITHUB_TOKEN", "ghp_" + "a1B2c3" * 6),
    ("GITHUB_TOKEN", "gho_" + "a1B2c3" * 6),
    ("GITHUB_TOKEN", "ghs_" + "a1B2c3" * 6),
    ("GITHUB_TOKEN", "github_pat_" + "11ABCDE_" * 8),
    ("GITLAB_TOKEN", "glpat-" + "a1B2-c3D4_e5" * 2),
    ("SLACK_TOKEN", "xoxb-123456789012-abcdefGHIJKL"),
    ("GOOGLE_KEY", "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"),
    ("STRIPE_KEY", "sk_live_" + "a1B2c3D4e5F6g7H8"),
    ("AWS_KEY_ID", "AKIA" + "QWERTYUIOP234567"),
    ("AWS_KEY_ID", "ASIA" + "QWERTYUIOP234567"),
    ("PRIVATE_KEY", PEM),
    ("PRIVATE_KEY", PEM.replace("\n", "\\n")),
    ("PRIVATE_KEY", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk"),
    ("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.Sfl-KxwRJ_SMeKKF2QT4"),
    ("EMAIL", "min.su+tools@mail.example.co.kr"),
    ("PHONE", "010-1234-5678"),
    ("PHONE", "01012345678"),
    ("PHONE", "010 1234 5678"),
    ("PHONE", "０１０－１２３４－５６７８"),
    ("PHONE", "+82 10-1234-5678"),
    ("PHONE", "+82-2-312-3456"),
    ("PHONE", "02-312-3456"),
    ("PHONE", "(031) 123-4567"),
    ("PHONE", "070-1234-5678"),
    ("PHONE", "+1 (415) 555-0132"),
    ("PHONE", "415-555-0132"),
    ("PHONE", "+49 30 901820 11"),
    ("RESIDENT_NUMBER", "900101-1234568"),
    ("RESIDENT_NUMBER", "900101-1234567"),  # the check digit is wrong
    ("RESIDENT_NUMBER", "210314-4928374"),  # random digits since October 2020
    ("RESIDENT_NUMBER", "850712-5123456"),  # a foreigner's
    ("RESIDENT_NUMBER", "9001011234568"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "4111-1111-1111-1111"),
    ("CARD", "5555555555554444"),
    ("CARD", "378282246310005"),
]


@pytest.mark.parametrize(("kind", "secret"), FOUND, ids=[f"{kind}-{text[:12]}" for kind, text in FOUND])
@pytest.mark.parametrize("around", ["{}", "값은 {}입니다.", "a={}\n", '{{"x": "{}"}}', "({})", "\t{},next"])
def test_each_kind_is_found_whole_in_any_neighbourhood(kind: str, secret: str, around: str) -> None:
    text = around.format(secret)
    (found,) = findings(text)
    assert (found.kind, found.text) == (kind, secret)
    assert text[found.start : found.end] == secret
    assert redact(text) == around.format(f"<{kind}_1>")


IN_CONTEXT = [
    ("Authorization: Bearer abcdef1234567890", "Authorization: Bearer <BEARER_1>"),
    ("curl -H 'authorization: Basic dXNlcjpwYXNz'", "curl -H 'authorization: Basic <CREDENTIAL_1>'"),
    ("postgres://app:s3cret@db.internal/x", "postgres://app:<PASSWORD_1>@db.internal/x"),
    ("DB_PASSWORD=Hunter2024!", "DB_PASSWORD=<PASSWORD_1>"),
    ('{"client_secret": "a1b2c3d4"}', '{"client_secret": "<PASSWORD_1>"}'),
    ("비밀번호: abcd1234!", "비밀번호: <PASSWORD_1>"),
    (
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = <AWS_SECRET_1>",
    ),
    ("AKIAQWERTYUIOP234567 wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "<AWS_KEY_ID_1> <AWS_SECRET_1>"),
    ("2026 4111-1111-1111-1111", "2026 <CARD_1>"),
    ("Kim@corp.com and kim@corp.com, lee@corp.com", "<EMAIL_1> and <EMAIL_1>, <EMAIL_2>"),
    ("+82 10-1234-5678 or 01012345678", "<PHONE_1> or <PHONE_1>"),
]


@pytest.mark.parametrize(("text", "redacted"), IN_CONTEXT)
def test_what_only_its_context_gives_away(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert findings(redacted) == []


def ordinary_texts() -> list[str]:
    """Texts of tests/ordinary_texts.txt, 20 and more of each kind."""
    lines = (ROOT / "tests" / "ordinary_texts.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith(("## ", "# "))]


@pytest.mark.parametrize("around", ["{}", "LOG\\n{}\\nend", "\x1b[32m{}\x1b[0m", '{{"content": "{}"}}'])
def test_no_false_alarm(around: str) -> None:
    texts = ordinary_texts()
    assert len(texts) >= 250
    assert {text: findings(around.format(text)) for text in texts if findings(around.format(text))} == {}


def test_neighbouring_items_of_a_list_are_no_secret_by_chance() -> None:
    texts = ordinary_texts()
    assert redact_value({"lines": texts, "rows": [{"text": text} for text in texts]})[1] == []


def test_random_numbers_times_and_hashes_are_rarely_taken_for_something() -> None:
    chance = random.Random(7)
    taken = 0
    for _ in range(2000):
        milliseconds = chance.randrange(1_500_000_000_000, 1_900_000_000_000)
        digest = f"{chance.getrandbits(160):040x}"
        price = f"{chance.randrange(10**9):,}.{chance.randrange(100):02d}"
        taken += len(findings(f"{milliseconds} {digest} {price} {chance.random()} {chance.getrandbits(63)}"))
    assert taken <= 4  # of 10,000 values


@pytest.mark.timeout(60)  # an expression that backtracks takes hours for one of these
@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1-",
        "1 ",
        "a",
        "a.",
        "a@",
        "@a.",
        "eyJ",
        "sk-",
        "sk-a-",
        "hf_",
        "A ",
        "password",
        "bearer ",
        "://",
        "a://:",
        "+1(",
        "aB3/",
        "authorization: ",
        "\\n",
        "<EMAIL_1>",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN A ",
    ],
)
def test_no_text_is_slow(piece: str) -> None:
    for text in (piece * (400_000 // len(piece)), "token key sk-1@://" + piece * (400_000 // len(piece)) + "@"):
        redact_value({"x": [text, {text: 1}]})


def test_a_value_has_one_placeholder_in_all_fields_of_a_record() -> None:
    row = record(
        action_sequence=[
            action("find", {"name": "Kim"}, output={"kim@corp.com": ["010-1234-5678", {"card": 4111111111111111}]}),
            action("send", '{"to": "KIM@corp.com", "phone": "+82 10 1234 5678"}', output="sent"),
        ]
    )
    redacted, found = redact_value(row)
    first, second = redacted["action_sequence"]
    assert first["output"] == {"<EMAIL_1>": ["<PHONE_1>", {"card": "<CARD_1>"}]}
    assert second["input"] == '{"to": "<EMAIL_1>", "phone": "<PHONE_1>"}'
    assert sorted(finding.kind for finding in found) == ["CARD", "EMAIL", "EMAIL", "PHONE", "PHONE"]


def test_keys_say_what_their_values_are() -> None:
    row = {"password": "Hunter2024", "dbPassword": "abc123", "api_key": "k1-2-3-4", "token": "sunset1", "pass": "필수"}
    redacted = {**row, "password": "<PASSWORD_1>", "dbPassword": "<PASSWORD_2>", "api_key": "<PASSWORD_3>"}
    assert redact_value(row)[0] == redacted


def test_a_secret_that_its_context_gave_away_is_found_alone_too() -> None:
    row = {
        "header": "Bearer a1b2c3d4e5f6",
        "log": ["got a1b2c3d4e5f6", {"x/a1b2c3d4e5f6": 1}],
        "password": "Zebra-2024",
    }
    redacted = {
        "header": "Bearer <BEARER_1>",
        "log": ["got <BEARER_1>", {"x/<BEARER_1>": 1}],
        "password": "<PASSWORD_1>",
    }
    assert redact_value({**row, "typed": "Zebra-2024!"})[0] == {**redacted, "typed": "<PASSWORD_1>!"}


def test_escaped_json_text_is_searched_by_what_it_says() -> None:
    assert redact_value({"body": '{"to":"kim\\u0040corp.com"}'})[0] == {"body": '{"to":"<EMAIL_1>"}'}


def test_used_placeholders_are_not_given_to_somebody_else() -> None:
    assert redact("<EMAIL_1> wrote to lee@corp.com") == "<EMAIL_1> wrote to <EMAIL_2>"


TEXT = st.text() | st.sampled_from([secret for _, secret in FOUND])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(value=JSON)
def test_redacting_twice_changes_nothing_and_clean_values_come_back_themselves(value: Any) -> None:
    redacted, found = redact_value(value)
    again, rest = redact_value(redacted)
    assert rest == [] and again is redacted
    if not found:
        assert redacted is value
    text = json.dumps(redacted, ensure_ascii=False)
    assert not any(json.dumps(secret, ensure_ascii=False)[1:-1] in text for kind, secret in FOUND if kind == "EMAIL")


# --- spellings ---


def texts_of(value: Any) -> list[str]:
    """All texts of a value, its keys too, and what each list says without its borders."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *texts_of(inner))]
    if isinstance(value, list):
        texts = [text for inner in value for text in texts_of(inner)]
        return [*texts, "".join(texts)]
    return [str(value)]


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if "items" not in name])
def test_a_password_of_letters_alone_is_told_from_a_name_by_its_capitals(spelling: str) -> None:
    password, name = "RksWzc" + "ZnyeyxSdlR", "readPasswordFromTerminal"
    redacted, _ = redact_value(SPELLINGS[spelling](f"DB_PASSWORD={password}"))
    assert not any(password in text for text in texts_of(redacted))
    assert redact_value(f"password = {name}")[1] == []


def test_a_business_number_by_name_needs_no_check_digit() -> None:
    assert redact_value("사업자등록번호 086-91-08057로")[0] == "사업자등록번호 <BUSINESS_NUMBER_1>로"


@pytest.mark.parametrize("spelling", ["plain", "behind \\n", "coloured", "JSON in JSON"])
def test_every_name_and_prefix_of_a_kind_is_found(spelling: str) -> None:
    missed = {}
    for kind, around, secret in OTHER_NAMES:
        redacted, found = redact_value(SPELLINGS[spelling](around.replace("*", secret)))
        kinds = [each.kind for each in found]
        if kinds != [kind] or secret in redacted:
            missed[around.replace("*", secret)] = (kinds, redacted)
    assert missed == {}


def test_the_line_before_is_not_what_stands_before() -> None:
    for before in ("LOG", "next", "version", "build-", "주문", "x = ", "a-"):
        for kind, text in (
            ("SECRET", "token: hGtRw8KqLm3NpXz7VbYc2JdF9sWa"),
            ("PASSWORD", "--password Tr0ub4dor3"),
            ("PHONE", "01098765432"),
            ("RESIDENT_NUMBER", "900101-1234568"),
        ):
            assert [found.kind for found in findings(f"{before}\n{text}\n")] == [kind], (before, text)
    assert findings("the api\nkey=Tr0ub4dor3\n") == []


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_kind_is_found_in_every_spelling(spelling: str) -> None:
    kept = {}
    for secret in SECRETS:
        written = {"output": SPELLINGS[spelling](secret.text)}
        redacted, found = redact_value(written)
        texts = texts_of(redacted)
        if not found or any(needle in text for needle in needles(secret) for text in texts):
            kept[secret.name] = redacted
        again, rest = redact_value(redacted)
        assert rest == [] and again is redacted
    assert kept == {}


@pytest.mark.parametrize("spelling", ["two items", "three items", "two items in JSON", "two parts"])
def test_no_half_of_a_split_secret_is_kept(spelling: str) -> None:
    for secret in SECRETS:
        redacted, found = redact_value(SPELLINGS[spelling](secret.text))
        assert len(found) >= 1
        # The ends of the secret stand in different items.
        for end in (secret.secret[:6], secret.secret[-6:]):
            said = "\n".join(texts_of(redacted))
            assert end not in said or end in secret.text.replace(secret.secret, ""), (secret.name, redacted)


DECODERS = {
    "JSON": json.loads,
    "JSON in JSON": lambda text: json.loads(json.loads(text)["r"]),
    "percent": lambda text: urllib.parse.unquote(text),
    "HTML, numbers": html.unescape,
    "base64 of JSON": lambda text: json.loads(json.loads(base64.b64decode(text))["q"]),
    "base64 in JSON": lambda text: base64.b64decode(json.loads(json.loads(text)["a"])["data"]).decode(),
    "repr": ast.literal_eval,
}


@pytest.mark.parametrize("spelling", DECODERS)
def test_what_was_written_still_decodes_and_says_the_placeholder(spelling: str) -> None:
    for secret in SECRETS:
        redacted, found = redact_value(SPELLINGS[spelling](secret.text))
        said = "\n".join(texts_of(DECODERS[spelling](redacted)))
        assert f"<{found[0].kind}_1>" in said, (secret.name, redacted)


def test_neighbours_in_a_list_stay_two_texts() -> None:
    token = "gh" + "p_" + LETTERS[:36]
    for row in (
        [token, "README.md"],
        ["kim@corp.com", "lee@corp.com"],
        ["kim@corp.com", "next line"],
        ["010-1234-5678", "010-9876-5432"],
        [token, token[:-1] + "Z"],
        ["--token", token, "--verbose"],
        ["see kim", "lee@corp.com"],
    ):
        redacted, _ = redact_value(row)
        kinds = {"kim@corp.com": "<EMAIL_1>", "lee@corp.com": "<EMAIL_2>", "010-1234-5678": "<PHONE_1>"}
        kinds |= {"010-9876-5432": "<PHONE_2>", token: "<GITHUB_TOKEN_1>", token[:-1] + "Z": "<GITHUB_TOKEN_2>"}
        if "see kim" in row:
            kinds["lee@corp.com"] = "<EMAIL_1>"
        assert redacted == [kinds.get(item, item) for item in row]


def test_the_next_key_of_json_text_stays() -> None:
    written = '{"password": "abcd1234", "roleId": "x", "names": ["a", "b"]}'
    assert redact(written) == written.replace("abcd1234", "<PASSWORD_1>")


def test_a_number_in_json_text_becomes_a_text() -> None:
    written = json.dumps({"card": 4111111111111111, "list": [4111111111111111, 1]})
    assert json.loads(redact(written)) == {"card": "<CARD_1>", "list": ["<CARD_1>", 1]}
    nested = json.dumps({"body": written})
    assert json.loads(json.loads(redact(nested))["body"])["card"] == "<CARD_1>"


def test_what_stands_beside_a_value_says_what_it_is() -> None:
    rows: list[tuple[Any, Any]] = [
        ({"headers": {"X-Naver-Client-Secret": "aB3dE5gH7j"}}, {"headers": {"X-Naver-Client-Secret": "<NAVER_KEY_1>"}}),
        ({"Cookie": "sid=a1b2c3d4e5f6"}, {"Cookie": "<COOKIE_1>"}),
        ({"Authorization": ["Bearer a1b2c3d4e5f6"]}, {"Authorization": ["Bearer <BEARER_1>"]}),
        ({"name": "DB_PASSWORD", "value": "Hunter2024"}, {"name": "DB_PASSWORD", "value": "<PASSWORD_1>"}),
        (["curl", "-u", "kim:Hunter2024"], ["curl", "-u", "kim:<PASSWORD_1>"]),
        (["--db-password", "Hunter2024"], ["--db-password", "<PASSWORD_1>"]),
        ({"token": HEX}, {"token": "<SECRET_1>"}),
        ({"계좌번호": "1234567890123"}, {"계좌번호": "<ACCOUNT_NUMBER_1>"}),
        ({"next_page_token": HEX}, {"next_page_token": HEX}),
    ]
    for row, redacted in rows:
        assert redact_value(row)[0] == redacted


def test_two_addresses_that_become_one_key_lose_nothing() -> None:
    redacted, _ = redact_value({"Kim@corp.com": 1, "kim@corp.com": 2})
    assert sorted(redacted.values()) == [1, 2]


def nested(text: str, layers: int) -> str:
    for _ in range(layers):
        text = json.dumps({"r": text})
    return text


def test_a_text_that_is_nested_too_deeply_is_a_finding_itself() -> None:
    token = "gh" + "p_" + LETTERS[:36]
    for layers in range(12):
        redacted, (found, *_) = redact_value({"output": nested(f"LOG\n{token}", layers)})
        assert token not in json.dumps(redacted)
        assert found.kind == ("GITHUB_TOKEN" if layers <= 8 else "UNREAD")
    assert redact_value({"output": "\\" * 5000 + " a drawing"})[1] == []


def test_a_text_that_is_escaped_and_too_long_is_a_finding_itself() -> None:
    long = "word " * (MAX_CHARACTERS // 5)
    assert redact_value({"output": long + " more words"})[1] == []
    redacted, (found,) = redact_value({"output": long + "\\nmore", "other": "kept"})
    assert found.kind == "UNREAD" and redacted == {"output": "<UNREAD_1>", "other": "kept"}
    # A list that is long as a whole is read item by item.
    lines = ["word " * 100 + "\\n"] * (MAX_CHARACTERS // 400) + ["LOG\\n010-1234-5678"]
    redacted, (found,) = redact_value({"output": lines})
    assert found.kind == "PHONE" and redacted["output"][:-1] == lines[:-1]


def test_addresses_of_machines_are_found_where_that_is_wanted() -> None:
    text = "from 203.0.113.7 and 2001:db8::8a2e:370:7334, fe80::1ff:fe23:4567:890a%eth0, not 127.0.0.1, ::1, 1.2.3 or 09:15:21"
    assert findings(text) == []
    redacted, found = redact_value(text, patterns=our_patterns(ip_addresses=True))
    said = "from <IP_ADDRESS_1> and <IP_ADDRESS_2>, <IP_ADDRESS_3>%eth0, not 127.0.0.1, ::1, 1.2.3 or 09:15:21"
    assert redacted == said and len(found) == 3


# --- the command ---


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_redact_counts_and_leaves_clean_rows_alone(run: Run, tmp_path: Path) -> None:
    clean = '  {"id":  "없음", "x": 1.50}  '
    source = tmp_path / "in.jsonl"
    source.write_text(clean + "\n" + json.dumps({"id": "b", "to": "kim@corp.com"}) + "\n", encoding="utf-8")
    code, out, _ = run("redact", source, "--out", tmp_path / "out.jsonl")
    assert code == 0 and "2 rows, 1 of them with findings" in out and "kim@" not in out
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == clean + '\n{"id":"b","to":"<EMAIL_1>"}\n'
    counts = json.loads((tmp_path / "out.counts.json").read_text(encoding="utf-8"))
    assert (counts["rows"], counts["rows_changed"], counts["found"]) == (2, 1, {"EMAIL": 1})


def test_two_people_stay_two_records_and_one_stays_one_group(run: Run, tmp_path: Path) -> None:
    rows = [
        {"id": f"{name}@corp.com/{step}", "metadata": {"group": f"{name}@corp.com"}}
        for name in ("kim", "lee")
        for step in (1, 2)
    ]
    run("redact", write_rows(tmp_path / "in.jsonl", rows), "--out", tmp_path / "out.jsonl")
    redacted = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in redacted}) == 4
    groups = [row["metadata"]["group"] for row in redacted]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert "@" not in json.dumps(redacted)


def test_check_names_lines_and_never_what_stands_there(run: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"a": 1}, {"a": "kim@corp.com, 010-1234-5678"}])
    code, out, _ = run("redact", "--check", source)
    assert code == 1 and f"{source}:2: 1 EMAIL, 1 PHONE" in out and "kim" not in out
    assert run("redact", "--check", write_rows(tmp_path / "clean.jsonl", [{"a": 1}]))[0] == 0


def test_redact_mistakes(run: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"a": 1}])
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a"\n')
    (tmp_path / "empty.jsonl").write_text("")
    for arguments, message in [
        ((source,), "give either --out FILE"),
        ((source, "--check", "--out", tmp_path / "x.jsonl"), "give either --out FILE"),
        ((source, "--out", source), "is one of the inputs"),
        ((tmp_path / "bad.jsonl", "--out", tmp_path / "x.jsonl"), "bad.jsonl:2: not JSON"),
        ((tmp_path / "empty.jsonl", "--out", tmp_path / "x.jsonl"), "holds no row"),
        ((tmp_path / "none.jsonl", "--out", tmp_path / "x.jsonl"), "No such file"),
    ]:
        code, _, err = run("redact", *arguments)
        assert code == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "x.jsonl").exists()


def test_detect_secrets_finds_more(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("detect_secrets")
    key = "sq0" + "csp-" + "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ0123456"
    assert findings(key) == []
    source = write_rows(tmp_path / "in.jsonl", [{"a": f"mail with {key}", "b": "d41d8cd98f00b204e9800998ecf8427e"}])
    assert run("redact", source, "--detect-secrets", "--out", tmp_path / "out.jsonl")[0] == 0
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {
        "a": "mail with <SQUARE_OAUTH_SECRET_1>",
        "b": "d41d8cd98f00b204e9800998ecf8427e",
    }
    assert sum(bool(detect_secrets_finder()(text)) for text in ordinary_texts()) <= 3


def test_patterns_of_your_own(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("patterns:\n  - kind: STAFF_NUMBER\n    regex: 'EMP-\\d{6}'\n    hints: [emp-]\n", encoding="utf-8")
    source = write_rows(tmp_path / "in.jsonl", [{"a": json.dumps({"b": "LOG\nEMP-123456"}), "ip": "203.0.113.7"}])
    out = tmp_path / "out.jsonl"
    code, printed, _ = run("redact", source, "--patterns", own, "--ip-addresses", "--out", out)
    assert code == 0 and "STAFF_NUMBER" in printed
    row = json.loads(out.read_text(encoding="utf-8"))
    assert row == {"a": '{"b": "LOG\\n<STAFF_NUMBER_1>"}', "ip": "<IP_ADDRESS_1>"}


def test_mistakes_in_patterns_of_your_own(run: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"a": "clean"}, {"a": "a" * 60 + "!"}])
    own = tmp_path / "own.yaml"
    for entry, message in [
        ("{kind: X, regex: '(a'}", "own.yaml: X: not a regular expression: missing )"),
        ("{kind: lower, regex: a}", "kind 'lower' is not made of capital letters"),
        ("{kind: X, regexp: a}", "own.yaml: field 'patterns.0.regexp' is unknown. Did you mean 'regex'?"),
        ("{kind: X, regex: '(a|a)+(a|a)+b'}", "in.jsonl:2: the pattern for X took longer than 1 s"),
    ]:
        own.write_text(f"patterns:\n  - {entry}\n", encoding="utf-8")
        code, _, err = run("redact", "--check", source, "--patterns", own)
        assert code == 2 and message in err and "Traceback" not in err


# --- the canary: plant, run everything, search everything ---

FIELDS_OF_A_KIND = 17

CANARIES = {
    "HF_TOKEN": "hf_CanaryCanaryCanaryCanary0123456789",
    "API_KEY": "sk-CanaryCanaryCanaryCanary0123456789",
    "GITHUB_TOKEN": "ghp_CanaryCanaryCanaryCanary0123456789",
    "AWS_KEY_ID": "AKIACANARYCANARY2345",
    "AWS_SECRET": "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",
    "PRIVATE_KEY": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIOCanary\n-----END EC PRIVATE KEY-----",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJDYW5hcnkifQ.Canary0123456789",
    "BEARER": "CanaryBearer0123456789",
    "EMAIL": "canary.bird@corp.example",
    "PHONE": "010-7654-3210",
    "RESIDENT_NUMBER": "870314-1928374",
    "CARD": "4012-8888-8888-1881",
}


def planted_records() -> list[dict[str, Any]]:
    """Three records with every kind in the instruction, an argument, an output, an error, a key, the answer and an id."""
    mine = {**CANARIES, "BEARER": f"Authorization: Bearer {CANARIES['BEARER']}"}
    rows = []
    for name, whom in (("a", "the bakery on the corner"), ("b", "my two cousins abroad"), ("c", "nobody at all")):
        steps = []
        for number, (kind, text) in enumerate(mine.items()):
            error = f"not found: {text}" if number % 3 == 0 else None
            output = [{text: json.dumps({kind: text})}] if error is None else None
            steps.append(action("read_file", {"path": f"{name}/{text}"}, error=error, output=output))
        said = " and ".join(mine.values())
        row = with_metadata(instruction=f"For {whom}, use {said}", answer=said, group=name, licence="MIT")
        rows.append({**row, "id": f"{name}-{CANARIES['EMAIL']}", "action_sequence": steps})
    return rows


def longest_lines() -> list[bytes]:
    """What must stand nowhere: each secret as it is, and its longest line."""
    return [max(text.splitlines(), key=len).encode() for text in CANARIES.values()]


def test_no_planted_secret_comes_out_of_the_pipeline(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    """Plant 12 kinds; redact, validate, score, plan, convert, build, pairs, train with wandb offline; search all files."""
    source = write_rows(tmp_path / "raw.jsonl", planted_records())
    assert all(needle in source.read_bytes() for needle in longest_lines())
    made = tmp_path / "made"
    printed = ""

    def step(*arguments: object, code: int = 0) -> None:
        nonlocal printed
        exit_code, out, err = run(*arguments)
        printed += out + err
        assert exit_code == code, (arguments, out, err)

    # What is said about the records as they came, their quarantine included.
    broken = tmp_path / "broken.jsonl"
    broken.write_text("".join(line[:-9] + "\n" for line in source.read_text(encoding="utf-8").splitlines()))
    step("redact", "--check", source, code=1)
    step("validate", source, broken, "--quarantine", made / "bad.jsonl", code=1)
    step("validate", source, broken, "--json", code=1)

    redacted = made / "redacted.jsonl"
    step("redact", source, "--out", redacted)
    step("redact", "--check", redacted)
    step("validate", redacted, "--out", made / "good.jsonl")
    step("score", redacted, "--out", made / "scores.jsonl")
    step("plan", ROOT / "configs/data/support-desk.plan.yaml", redacted, "--out", made / "plan.json")
    config = tmp_path / "build.yaml"
    entry = {"adapter": "trajectory", "path": str(redacted)}
    config.write_text(yaml.safe_dump({"validation_share": 0.0, "sources": [entry]}))
    step("build", "--config", config, "--out", made / "set")
    step("pairs", redacted, "--out", made / "pairs.jsonl")

    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
    arguments = {
        "model_name_or_path": tiny_model,
        "data": made / "set",
        "output_dir": made / "run",
        "wandb": "offline",
        "max_steps": 1,
        "per_device_train_batch_size": 1,
        "max_length": 4096,
        "use_cpu": "true",
        "bf16": "false",
    }
    command = [sys.executable, str(ROOT / "train/sft.py"), *(f"--{key}={value}" for key, value in arguments.items())]
    done = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    printed += done.stdout + done.stderr

    files = [path for path in made.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files), "wandb wrote no offline run"
    assert {"redacted.jsonl", "bad.jsonl", "scores.jsonl", "pairs.jsonl", "train.jsonl"} <= {
        path.name for path in files
    }
    assert b"<HF_TOKEN_1>" in (made / "set" / "train.jsonl").read_bytes()
    for needle in longest_lines():
        assert needle.decode() not in printed
        for path in files:
            assert needle not in path.read_bytes(), f"{needle!r} in {path.relative_to(made)}"


def planted_everywhere(spelling: str) -> dict[str, Any]:
    """A record whose fields all hold secrets, in one spelling; each kind stands in every 17th field.

    From spelling to spelling the kinds move on by a field, so that each stands in all fields, in many spellings.
    """
    fields = 0

    def planted() -> Any:
        nonlocal fields
        fields += 1
        first = (fields + list(SPELLINGS).index(spelling)) % FIELDS_OF_A_KIND
        return SPELLINGS[spelling]("\n".join(secret.text for secret in SECRETS[first::FIELDS_OF_A_KIND]))

    def said() -> str:
        value = planted()
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    parameters = {
        "type": "object",
        "properties": {"path": {"type": "string", "description": said(), "enum": [said()], "default": said()}},
    }
    tool = {"type": "function", "function": {"name": "read_file", "description": said(), "parameters": parameters}}
    row = with_metadata(
        instruction=said(),
        system=said(),
        answer=said(),
        answer_reasoning=said(),
        tools=[tool],
        group=said(),
        source=said(),
        language="en",
        licence="MIT",
        note=planted(),
        notes={said(): [planted()]},
    )
    row["environment"] = {"name": said(), "version": said(), "details": {"log": planted(), said(): 1}}
    row["action_sequence"] = [
        action("read_file", {"path": planted(), said(): said()}, error=said(), text=said()),
        action("read_file", {"path": "a"}, output={"content": planted(), said(): said()}, text=said()),
    ]
    return {**row, "id": f"{spelling}: {said()}", "tool": said()}


def written_texts(folder: Path) -> dict[str, str]:
    """What the files of a folder say, tables too."""
    texts = {}
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            texts[path.name] = json.dumps(parquet.read_table(path).to_pylist(), ensure_ascii=False)
        elif path.is_file():
            texts[path.name] = path.read_bytes().decode(errors="replace")
    return texts


def test_no_kind_in_any_spelling_in_any_field_comes_out_of_the_pipeline(run: Run, tmp_path: Path) -> None:
    """Plant all in all; redact, validate, release, export, convert; then look for each in every file, and on the screen."""
    # Words of many secrets in a row are nobody's list of arguments.
    rows = [planted_everywhere(spelling) for spelling in SPELLINGS if spelling != "words"]
    chat = {"messages": [{"role": "user", "content": row["metadata"]["instruction"]} for row in rows]}
    pair = {"prompt": "x", "chosen": rows[0]["metadata"]["answer"], "rejected": rows[5]["metadata"]["answer"]}
    source = write_rows(tmp_path / "raw.jsonl", rows)
    others = write_rows(tmp_path / "others.jsonl", [chat, pair])
    few = write_rows(tmp_path / "few.jsonl", rows[:2])
    broken = tmp_path / "broken.jsonl"
    broken.write_text("".join(line[:-9] + "\n" for line in source.read_text(encoding="utf-8").splitlines()))
    made = tmp_path / "made"
    redacted = made / "redacted.jsonl"
    printed = ""
    for code, *arguments in (
        (1, "validate", broken, "--quarantine", made / "bad.jsonl"),
        (0, "redact", source, "--out", redacted),
        (0, "redact", others, "--out", made / "others.jsonl"),
        (0, "redact", "--check", redacted, made / "others.jsonl"),
        (0, "validate", redacted, "--out", made / "good.jsonl"),
        (0, "release", "build", "--version", "1.0.0", "--input", redacted, "--out", made / "1.0.0"),
        (0, "release", "export", made / "1.0.0", "--out", made / "table.csv"),
        (0, "release", "export", made / "1.0.0", "--out", made / "table.parquet", "--format", "parquet"),
        (0, "convert", redacted, "--adapter", "trajectory", "--out", made / "chats.jsonl"),
        (0, "export", made / "chats.jsonl", "--format", "openai", "--out", made / "openai.jsonl"),
    ):
        exit_code, out, err = run(*arguments)
        assert exit_code == code, (arguments, out[-2000:], err[-2000:])
        printed += out + err
    code, _, err = run("release", "build", "--version", "1.0.0", "--input", few, "--out", tmp_path / "refused")
    assert code == 2 and "not redacted" in err
    texts = written_texts(made) | {"screen": printed + err}
    assert len(texts) > 12
    kept = {
        (secret.name, name)
        for secret in SECRETS
        for needle in needles(secret)
        for name, text in texts.items()
        if needle in text
    }
    assert kept == set()
    planted = written_texts(tmp_path)["raw.jsonl"]
    assert all(any(needle in planted for needle in needles(secret)) for secret in SECRETS)
