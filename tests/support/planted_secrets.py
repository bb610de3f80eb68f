"""Made-up secrets of every kind, and the spellings that results of tools have. They belong to nobody.

Put together when the tests run, so that no scanner of a git host takes this file for a leak.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

LETTERS = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"
HEX = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
KEY_LINES = (
    "MIIEowIBAAKCAQEA7Zq3k0bQx9fLmN2pR5tV8wY1zA4cE6gI0jK3lM5nO7pQ9rS1",
    "uV3wX5yZ7aB9cD1eF3gH5iJ7kL9mN1oP3qR5sT7uV9wX1yZ3aB5cD7eF9gH1iJ3k",
    "L5mN7oP9qR1sT3uV5wX7yZ9aB1cD3eF5gH7iJ9kL1mN3oP5qR7sT9uV1wX3yZ5==",
)
DASHES = "-" * 5


class Secret(NamedTuple):
    """`text` is planted, `secret` is the part of it that must be gone."""

    name: str
    text: str
    secret: str


def _whole(name: str, *parts: str) -> Secret:
    return Secret(name, "".join(parts), "".join(parts))


def _in(name: str, text: str, secret: str) -> Secret:
    return Secret(name, text.replace("*", secret, 1), secret)


SECRETS = [
    _whole("hugging face", "hf", "_AbCdEfGhIjKlMnOpQrStUvWxYz01234567"),
    _whole("openai", "sk", "-", "T3BlbkFJ" * 6),
    _whole("openai project", "sk", "-proj-", "aB3_-xZ9qW" * 6),
    _whole("anthropic", "sk", "-ant-api03-", "aB3_-xK8pL" * 9),
    _whole("github", "gh", "p_", LETTERS[:36]),
    _whole("github app", "gh", "s_", LETTERS[:36]),
    _whole("github fine-grained", "github", "_pat_11ABCDE_", LETTERS, LETTERS[:20]),
    _whole("gitlab", "gl", "pat-", LETTERS[:20]),
    _whole("gitlab runner", "gl", "rt-", LETTERS[:20]),
    _whole("gitlab deploy", "gl", "dt-", LETTERS[:20]),
    _whole("gitlab oauth", "gl", "oas-", LETTERS[:20]),
    _whole("slack", "xo", "xb-123456789012-123456789012-", LETTERS[:24]),
    _in("slack hook", "https://hooks.slack" + ".com/services/T01ABCDEF/*", "B01ABCDEF/" + LETTERS[:24]),
    _whole("google", "AI", "zaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"),
    _whole("google oauth", "GOC", "SPX-", LETTERS[:28]),
    _whole("google access", "ya", "29.a0Ab", LETTERS),
    _whole("google refresh", "1/", "/0g", LETTERS, "-", LETTERS[:20]),
    _whole("groq", "gs", "k_", LETTERS, LETTERS[:12]),
    _whole("xai", "xa", "i-", LETTERS, LETTERS),
    _whole("perplexity", "pp", "lx-", LETTERS, LETTERS[:8]),
    _whole("replicate", "r", "8_", LETTERS[:37]),
    _whole("langsmith", "ls", "v2_pt_", HEX, "_0a1b2c3d4e"),
    _whole("pinecone", "pc", "sk_2aB3c_", LETTERS, LETTERS[:20]),
    _whole("databricks", "da", "pi", HEX),
    _whole("vault", "hv", "s.", LETTERS, LETTERS, "AbCd"),
    _whole("digitalocean", "do", "p_v1_", HEX, HEX),
    _whole("shopify", "sh", "pat_", HEX),
    _whole("linear", "li", "n_api_", LETTERS),
    _whole("notion", "nt", "n_", LETTERS, "123456"),
    _whole("notion, older", "sec", "ret_", LETTERS, "abc"),
    _whole("atlassian", "AT", "ATT3xFfGF0", LETTERS, LETTERS, LETTERS, "=1A2B3C4D"),
    _whole("figma", "fi", "gd_", LETTERS),
    _whole("docker", "dc", "kr_pat_", LETTERS[:27]),
    _whole("supabase", "sb", "p_", HEX, "01234567"),
    _whole("supabase secret", "sb", "_secret_", LETTERS[:31]),
    _whole("discord", "MTIzNDU2Nzg5MDEyMzQ1Njc4", ".GaBcDe.", LETTERS[:38]),
    _whole("telegram", "1234567890", ":AAH", LETTERS[:32]),
    _whole("sendgrid", "S", "G.", LETTERS[:22], ".", LETTERS, "abc"),
    _whole("twilio", "S", "K", HEX),
    _whole("stripe", "sk", "_live_", LETTERS[:24]),
    _whole("stripe webhook", "wh", "sec_", LETTERS[:32]),
    _whole("toss", "test", "_sk_", LETTERS[:28]),
    _whole("toss widget", "live", "_gsk_", LETTERS[:28]),
    _in("kakao header", "Authorization: KakaoAK *", HEX),
    _in("kakao", "KAKAO_REST_API_KEY=*", HEX),
    _in("naver", "X-Naver-Client-Secret: *", "aB3dE5gH7j"),
    _in("naver id", "NAVER_CLIENT_ID=*", "a1B2c3D4e5F6g7H8i9J0"),
    _whole("naver cloud", "nc", "p_iam_BPAMKR", LETTERS[:20]),
    _whole("npm", "np", "m_", LETTERS[:36]),
    _whole("pypi", "py", "pi-AgEIcHlwaS5vcmc", LETTERS, LETTERS),
    _whole("aws", "AK", "IAQWERTYUIOP234567"),
    _in("aws secret", "aws_secret_access_key = *", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzQ9wP0KEYa"),
    _whole("azure ad", "abc8", "Q~", LETTERS[:34]),
    _in(
        "azure sas",
        "https://x.blob.core.windows.net/c?sv=2022-11-02&ss=b&sig=*%3D",
        "aB3dE5gH7jK9lM1nO3pQ5rS7tU9vW1xY3zA5bC7dE9f",
    ),
    _in("azure storage", "AccountName=x;AccountKey=*;EndpointSuffix=core", LETTERS + LETTERS + "AbCdEf=="),
    Secret(
        "private key",
        "\n".join((f"{DASHES}BEGIN RSA PRIVATE KEY{DASHES}", *KEY_LINES, f"{DASHES}END RSA PRIVATE KEY{DASHES}")),
        KEY_LINES[1],
    ),
    Secret(
        "putty",
        "PuTTY-User-Key-File"
        + "-3: ssh-ed25519\nEncryption: none\nComment: k\nPublic-Lines: 1\nAAAAC3NzaC1lZDI1NTE5AA\n"
        f"Private-Lines: 1\n{KEY_LINES[0]}\nPrivate-MAC: {HEX}{HEX}",
        KEY_LINES[0],
    ),
    _whole("jwt", "eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.Sfl-KxwRJ_SMeKKF2QT4fwpMeJf36POk6yJV_adQssw"),
    _in("bearer", "Authorization: Bearer *", LETTERS[:24]),
    _in("basic", "Authorization: Basic *", "dXNlcjpTM2NyM3RwdyE="),
    _in("cookie", "Cookie: sessionid=*; csrftoken=p0o9i8u7y6t5", "k3j4h5g6f7d8s9a0"),
    _in("set-cookie", "Set-Cookie: sid=*; Path=/; HttpOnly", "k3j4h5g6f7d8s9a0q1"),
    _in("curl", "curl -u admin:* https://api.corp.kr/v1", "S3cr3tPw99"),
    _in("sshpass", "sshpass -p * ssh host", "Tr0ub4dor"),
    _in("mysql", "mysql -u root -p* shop", "Tr0ub4dor3"),
    _in("url", "postgres://app:*@db.internal/x", "s3cr3tPw"),
    _in("assigned", "DB_PASSWORD=*", "Hunter2024!"),
    _in("assigned in Korean", "비밀번호: *", "abcd1234!"),
    _in("option", "tool --password * --x", "Zebra2024x"),
    _whole("sha512-crypt", "$6$rounds=5000$saltsalt$", LETTERS, LETTERS, "abcdef"),
    _whole("bcrypt", "$2b$12$", LETTERS, "abcdefghijklm"),
    _whole("e-mail", "min.su+tools@mail.hankook.co.kr"),
    _whole("e-mail, Korean domain", "minsu@한국전력.한국"),
    _whole("e-mail, German", "jörg@bücher-laden.de"),
    _whole("mobile", "010-1234-5678"),
    _whole("mobile, digits", "01098765432"),
    _whole("mobile, abroad", "+82 10-1234-5678"),
    _whole("Seoul", "02-312-3456"),
    _whole("Suwon", "(031) 123-4567"),
    _whole("US, E.123", "+1 (415) 555-0132"),
    _whole("US", "415-555-0132"),
    _whole("US, brackets", "(415) 555-0132"),
    _whole("US, points", "415.555.0132"),
    _whole("UK", "+44 20 7946 0958"),
    _whole("Germany", "+49 30 901820 11"),
    _whole("Japan", "+81 90-1234-5678"),
    _whole("China", "+86 138 0013 8000"),
    _whole("France", "+33 6 12 34 56 78"),
    _whole("resident number", "900101-1234568"),
    _whole("foreigner's number", "850712-5123456"),
    _whole("resident number, digits", "9001011234568"),
    _whole("business number", "124-81-00998"),
    _whole("corporate number", "110111-0000014"),
    _whole("passport", "M12345678"),
    _whole("passport, newer", "M123A4567"),
    _whole("driver licence", "11-12-123456-78"),
    _whole("account, Shinhan", "110-234-567890"),
    _in("account by name", "국민은행 *", "123456-04-123456"),
    _whole("account, Kakao", "3333-01-1234567"),
    _whole("account, Woori", "1002-123-456789"),
    _whole("card", "4111 1111 1111 1111"),
    _whole("card, digits", "5555555555554444"),
    _whole("card, 15 digits", "378282246310005"),
    _whole("iban", "DE89 3704 0044 0532 0130 00"),
    _whole("iban, no blanks", "GB29NWBK60161331926819"),
]


def _each(kind: str, *prefixes: str, rest: str = LETTERS) -> list[tuple[str, str, str]]:
    return [(kind, "*", prefix + rest) for prefix in prefixes]


_WORD = "Tr0ub4dor3"
OTHER_NAMES: list[tuple[str, str, str]] = [
    ("PRIVATE_KEY", "*", "AGE-SECRET" + "-KEY-1" + "Q2W3E4R5T6" * 5),
    *_each("HF_TOKEN", "api" + "_org_"),
    *_each("GITHUB_TOKEN", *(f"gh{letter}_" for letter in "opusr")),
    *_each(
        "GITLAB_TOKEN",
        *(f"gl{word}-" for word in ["rtr", "cbt", "ptt", "ft", "imt", "agent", "wt", "soat", "ffct"]),
        "GR1348" + "941",
    ),
    *_each("SLACK_TOKEN", "xa" + "pp-1-A0-", "xw" + "fp-"),
    *_each("GOOGLE_KEY", "AQ" + ".Ab", "4/" + "0Aa_", rest=LETTERS + "xyz"),
    *_each("LANGSMITH_KEY", "ls" + "__"),
    *_each("DATABRICKS_TOKEN", "do" + "se", "dk" + "ea", rest=HEX),
    *_each("VAULT_TOKEN", "hv" + "b.", "hv" + "r."),
    ("VAULT_TOKEN", "token *", "s" + "." + "hGtRw8KqLm3NpXz7VbYc2JdF"),
    *_each("DIGITALOCEAN_TOKEN", "do" + "o_v1_", "do" + "r_v1_", rest=HEX + HEX),
    *_each("SHOPIFY_TOKEN", *(f"shp{word}_" for word in ["ca", "pa", "ss", "tka", "ua"]), rest=HEX),
    *_each("LINEAR_KEY", "lin" + "_oauth_"),
    *_each("ATLASSIAN_TOKEN", "ATC" + "TT3xFf", "ATS" + "TT3xFf", "AT" + "BB"),
    *_each("FIGMA_TOKEN", *(f"fig{word}_" for word in ["u", "o", "or", "oh"])),
    *_each("SUPABASE_KEY", "sb" + "_publishable_"),
    *_each("SUPABASE_KEY", "sbp" + "_oauth_", rest=HEX),
    *_each("DISCORD_TOKEN", "mf" + "a.", rest=LETTERS * 2),
    ("DISCORD_TOKEN", "https://discord.com/api/webhooks/*", "123456789012345678/" + LETTERS + "xY"),
    *_each("MAIL_SERVICE_KEY", "key" + "-", rest=HEX),
    ("MAIL_SERVICE_KEY", "*", HEX + "-us" + "12"),
    ("MAIL_SERVICE_KEY", "*", "xkey" + "sib-" + HEX * 2 + "-a1B2c3D4e5F6g7H8"),
    *_each("STRIPE_KEY", *(f"{kind}k_{mode}_" for kind in "rp" for mode in ("live", "test")), "sk" + "_test_"),
    ("KAKAO_KEY", "카카오 REST API 키: *", HEX),
    *[
        ("NAVER_KEY", f"{name}*", "aB3dE5gH7jK9")
        for name in ("x-ncp-apigw-api-key: ", "NCP_SECRET_KEY=", "네이버 시크릿: ")
    ],
    ("NAVER_KEY", "ncloud_access_key = *", "aB3dE5gH7jK9"),
    ("AZURE_SECRET", "Endpoint=sb://x.example/;SharedAccessKey=*", LETTERS + "aB="),
    ("AZURE_SECRET", "*", LETTERS + "aB1c" + "JQQ" + "J99" + LETTERS[:24]),
    ("AZURE_SECRET", "*", LETTERS + LETTERS[:20] + "AZ" + "DO" + "a1B2"),
    ("CREDENTIAL", '{"auths": {"r.example": {"auth": "*"}}}', "bWluc3U6VHIwdWI0ZG9y"),
    *[
        ("COOKIE", f"{name}=*", "k3j4h5g6f7d8s9a0")
        for name in [
            "JSESSIONID",
            "PHPSESSID",
            "ASP.NET_SessionId",
            "connect.sid",
            "sessionid",
            "_gitlab_session",
            "sid",
        ]
    ],
    ("COOKIE", "curl -b '*' https://x.example", "sid=k3j4h5g6f7d8"),
    ("COOKIE", "curl --cookie *", "sid=k3j4h5g6f7d8"),
    *[
        ("PASSWORD", f"{command}*", _WORD)
        for command in (
            "http -a min:",
            "wget --auth=min:",
            "docker login -u min -p ",
            "podman login -p ",
            "helm registry login -p ",
            "mongosh -p ",
            "plink -pw ",
            "pscp -pw ",
            "psftp -pw ",
            "mariadb -uroot -p",
            "mysqldump -p",
            "7z x a.7z -p",
            "7za x a.7z -p",
            "rar x a.rar -p",
            "unrar x a.rar -p",
            "redis-cli -h cache -a ",
            "ldapsearch -x -w ",
            "zip -P ",
            "unzip -P ",
            "sqlcmd -U sa -P ",
            "smbclient //s/x -U min%",
            "rpcclient -U min%",
            "openssl rsa -passin pass:",
            "pwd=",
            "패스워드: ",
            "암호: ",
            "비번: ",
            "tool --pwd ",
            "tool --token ",
            "tool --secret ",
            "tool --api-key ",
            "tool --access-key ",
            "tool --auth-key ",
            "My password is ",
            "the passphrase was ",
            "the passcode is ",
            "pw is ",
            "비밀번호는 ",
            "패스워드는 ",
            "암호가 ",
            "비번은 ",
            "machine x.example login min password ",
        )
    ],
    *[
        ("PASSWORD", f"<{tag}>*</{tag}>", _WORD)
        for tag in ("password", "pwd", "secret", "secretKey", "apikey", "token")
    ],
    ("PASSWORD", "CREATE USER min IDENTIFIED BY '*'", _WORD),
    ("SECRET", "token: *", "hGtRw8KqLm3NpXz7VbYc2JdF9sWa"),
    ("SECRET", "credentials=*", "hGtRw8KqLm3NpXz7VbYc2JdF9sWa"),
    *[("CRYPT_HASH", "*", form + LETTERS[:32]) for form in ("{SS" + "HA}", "{SM" + "D5}", "{CR" + "YPT}")],
    ("CRYPT_HASH", "*", "pbkdf2" + "_sha256$600000$saltsalt$" + LETTERS + "abc="),
    *[("SSN", f"{name} *", "536-22-8741") for name in ("SSN:", "social security number", "social_security_no:")],
    *[("PHONE", f"{name}*", "3123 4567") for name in ("Tel: ", "전화: ", "연락처는 ", "팩스: ", "whatsapp: ")],
    ("PASSPORT", "여권번호: *", "PM1234567"),
    ("PASSPORT", "passport no. *", "AB1234567"),
    ("ACCOUNT_NUMBER", "계좌번호: *", "1234-5678-9012"),
    ("ACCOUNT_NUMBER", "카카오뱅크 *", "12-345-678901"),
]
"""(kind, what stands around the `*`, the secret): names and prefixes that a kind has beside the ones above."""


def _json(*values: Any) -> str:
    return json.dumps(*values, ensure_ascii=False)


def _page(text: str) -> dict[str, str]:
    return {"content": f"LOG\n{text}\nend"}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SPELLINGS: dict[str, Callable[[str], Any]] = {
    "plain": lambda text: text,
    "behind a line break": lambda text: f"LOG\n{text}",
    "behind \\n": lambda text: f"LOG\\n{text}\\nend",
    "behind \\t": lambda text: f"LOG\\t{text}\\tend",
    "behind \\r\\n": lambda text: f"LOG\\r\\n{text}\\r\\nend",
    "JSON": lambda text: _json(_page(text)),
    "JSON, ASCII": lambda text: json.dumps({"content": f"로그\n{text}로"}),
    "JSON in JSON": lambda text: _json({"r": _json(_page(text))}),
    "JSON in JSON in JSON": lambda text: _json([_json({"r": _json(_page(text))})]),
    "JSON cut off": lambda text: _json({"r": _json(_page(text))})[:-3],
    "repr": lambda text: repr(_page(text)),
    "repr of bytes": lambda text: repr(f"로그\n{text}\n".encode()),
    "repr of JSON": lambda text: repr(_json(_page(text))),
    "coloured": lambda text: f"LOG\x1b[0m\x1b[1;31m{text}\x1b[0mend",
    "coloured, 256": lambda text: f"LOG\x1b[38;5;196m{text}\x1b[K",
    "coloured in JSON": lambda text: json.dumps({"c": f"LOG\x1b[31m{text}\x1b[0m"}),
    "coloured, escape lost": lambda text: f"LOG[31m{text}[0m",
    "coloured, \\033": lambda text: f"LOG\\033[1;31m{text}\\033[0m",
    "a link of a terminal": lambda text: f"\x1b]8;;file:///x\x1b\\{text}\x1b]8;;\x1b\\",
    "percent": lambda text: f"a={quote('x ' + text, safe='')}&b=1",
    "percent twice": lambda text: f"a={quote(quote('x ' + text, safe=''), safe='')}&b=1",
    "percent, all": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "a form": lambda text: f"a=1&msg={quote_plus('x ' + text)}&b=1",
    "HTML": lambda text: f"<p>x {html.escape(text)}</p>",
    "HTML, numbers": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(letter):x};" for letter in text),
    "\\u": lambda text: '{"to":"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"}',
    "\\x": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "base64": lambda text: f"data: {_base64(f'LOG {text} end')} end",
    "base64, URL": lambda text: "x=" + base64.urlsafe_b64encode(f"Lö>?>?G\n{text}\n".encode()).decode().rstrip("="),
    "base64 of JSON": lambda text: _base64(_json({"q": _json(_page(text))})),
    "base64 in JSON": lambda text: _json({"a": _json({"data": _base64(f"LOG\n{text}\nend")})}),
    "base64 of base64": lambda text: _base64(_base64(f"LOG {text} end")),
    "base64, lines": lambda text: base64.encodebytes(f"{'LOG ' * 40}{text}\n".encode()).decode(),
    "hexadecimal": lambda text: f"LOG {text}".encode().hex(),
    "soft hyphen inside": lambda text: f"{text[: len(text) // 2]}\u00ad{text[len(text) // 2 :]}",
    "zero width inside": lambda text: f"{text[:3]}\u200b{text[3:7]}\u200d{text[7:]}",
    "zero width inside, JSON": lambda text: json.dumps({"a": f"LOG\n{text[:5]}\u200b{text[5:]}"}),
    "a particle behind": lambda text: f"값은 {text}로 보내",
    "full-width": lambda text: "".join(chr(ord(c) + 0xFEE0) if 33 <= ord(c) < 127 else c for c in text),
    "a diff": lambda text: "\n".join(f"+{line}" for line in text.splitlines()),
    "bold": lambda text: f"**{text}**",
    "two items": lambda text: [f"out {text[: len(text) // 2]}", f"{text[len(text) // 2 :]} end"],
    "three items": lambda text: [
        text[: len(text) // 3],
        text[len(text) // 3 : -(len(text) // 3)],
        text[-(len(text) // 3) :],
    ],
    "two items in JSON": lambda text: _json([text[: len(text) // 2], text[len(text) // 2 :]]),
    "two parts": lambda text: [
        {"type": "text", "text": part} for part in (text[: len(text) // 2], text[len(text) // 2 :])
    ],
    "lines": lambda text: ["LOG", *text.splitlines(), "end"],
    "lines in JSON": lambda text: _json(["LOG", *text.splitlines(), "end"]),
    "words": lambda text: text.split(),
    "a key": lambda text: {text: 1},
    "a key in JSON": lambda text: _json({text: 1}),
}


def needles(secret: Secret) -> list[str]:
    """What must stand nowhere: the secret in the spellings that one can search for, and a part that half of one would leave."""
    text = secret.secret
    data = text.encode()
    found = {text, _json(text)[1:-1], json.dumps(text)[1:-1], quote(text, safe=""), html.escape(text), data.hex()}
    # Base64 of the bytes that do not share a group with their neighbours, for each of the three places in a group.
    for skipped in range(3):
        whole = data[skipped : skipped + (len(data) - skipped) // 3 * 3]
        if len(whole) >= 9:
            found.add(base64.b64encode(whole).decode())
    return sorted(found)
