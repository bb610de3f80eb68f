"""What a question is about, in English and Korean, however it is put.

A question asks for a value by its name, by another word for it, or by the word that one asks with (when, who, how many). So
names and questions are compared by their words and by what these words are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ABOUT: dict[str, str] = {
    "name": "name names named naming called call title titled label who whom person 이름 제목 명칭 뭐라고 성함 누구 누가",
    "person": "person people who whom whose assignee owner recipient member employee colleague 누구 누가 사람 담당 직원 회원",
    "customer": "customer client buyer account who whom whose 고객 손님 구매자 누구 누가 계정",
    "text": "text content contents contain body wording message write written say 내용 본문 문구 텍스트 메시지 쓸 적을",
    "place": "where place location spot 어디 장소 위치",
    "path": "path file filename folder directory where location destination target save saved 경로 파일 폴더 어디 위치 대상",
    "address": "address url link page site website where 주소 링크 페이지 사이트 어디",
    "city": "city town place where destination 도시 어디 장소",
    "list": "list project category group board section where bucket 목록 리스트 분류 프로젝트 그룹 어디",
    "item": "item product article goods thing 물건 품목 상품 제품",
    "date": "date day due deadline when until expire expires expiry 날짜 언제 마감 기한 며칠 일자 기일",
    "time": "time hour clock when 시간 시각 언제",
    "number": "number amount quantity count many much 수량 개수 얼마 금액 숫자",
    "price": "price cost much fee 가격 비용 얼마",
    "id": "id identifier 아이디 번호",
    "email": "email 이메일",
    "phone": "phone telephone mobile 전화 휴대폰 연락처",
    "priority": "priority urgent urgency importance 우선순위 중요도 긴급",
    "colour": "color colour 색깔 색상",
    "size": "size 크기 사이즈",
    "status": "status 상태",
    "reason": "reason why 이유 사유",
    "weather": "weather 날씨",
}
"""Words by what they are about. A word may be about several things."""
_PLAIN = (
    "date",
    "time",
    "number",
    "price",
    "id",
    "email",
    "phone",
    "priority",
    "colour",
    "size",
    "status",
    "reason",
    "weather",
)
"""What nobody asks for who means something else; who asks for a name, a place, a text may well."""
_AGREEMENT = (
    "may i|can i|could i|should i|shall i|must i|do you want|would you like|do you agree|are you sure|"
    "is (it|that|this) (ok|okay|fine|right|correct)|ok(ay)?|proceed|go (on|ahead)|continue|confirm\\w*|permission|allow\\w*|"
    "approv\\w*|agree|sure|really|still want|happy with|all right|alright|"
    "해도|까요|됩니까|되나요|되겠|괜찮|진행|맞나요|맞습니까|맞지요|맞죠|확인|동의|승인|허락|정말|하시겠|원하시|계속"
)
_AGREES = re.compile(rf"(?<![a-z])(?:{_AGREEMENT})(?![a-z])")
_ASKS_WHICH = re.compile(
    r"\b(what|which|when|where|who|whom|whose|how)\b|무엇|무슨|뭐|뭘|언제|어디|누구|누가|어느|어떤|몇|얼마|어떻게"
)
_CLAUSES = re.compile(r"[?.!;,\n]|\band\b|그리고")
_LATIN_OR_KOREAN = re.compile(r"[a-z0-9]+|[가-힣]+")
_EMPTY = {
    "the",
    "of",
    "to",
    "for",
    "into",
    "a",
    "an",
    "in",
    "on",
    "is",
    "be",
    "it",
    "new",
    "and",
    "or",
    "with",
    "by",
    "at",
}
_WORDS = {about: told.split() for about, told in _ABOUT.items()}
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|「[^」]*」|(?<!\w)'[^']*'(?!\w)|`[^`]*`")


def holds(text: str, word: str) -> bool:
    """Whether a word stands in a text, both in lower case. English words end, after Korean ones particles may follow."""
    if not word.isascii():
        return word in text
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?:e?s|'s)?(?![a-z0-9])", text) is not None


def topics(text: str) -> frozenset[str]:
    """What a text is about."""
    said = text.casefold()
    return frozenset(about for about, words in _WORDS.items() if any(holds(said, word) for word in words))


def words_of(name: str) -> frozenset[str]:
    """The telling words of a name, such as `due_date`, `dueDate` or `the path of the file`."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    return frozenset(word for word in _LATIN_OR_KOREAN.findall(plain) if word not in _EMPTY)


def asks_for_agreement(question: str) -> bool:
    """Whether a question asks whether something may be done; which it may be is another question."""
    found = ((clause, _AGREES.search(clause)) for clause in _CLAUSES.split(question.casefold()))
    return any(match is not None and not _ASKS_WHICH.search(clause[: match.start()]) for clause, match in found)


def without_quotes(question: str) -> str:
    """A question without the values that it quotes, which say nothing of what it is about."""
    return _QUOTED.sub(" ", question)


def is_elsewhere(question: str, names: Iterable[str]) -> bool:
    """Whether a question is plainly about something that none of the names means."""
    about = topics(question)
    known = [topics(" ".join(words_of(name))) for name in names]
    return bool(about) and about <= set(_PLAIN) and all(known) and not any(about & each for each in known)


def names_asked_for(question: str, names: Iterable[str]) -> set[str]:
    """Those of the names that a question asks for. What all of them share tells nothing."""
    said, about = question.casefold(), topics(question)
    of_name = {name: words_of(name) | {f"about {each}" for each in topics(" ".join(words_of(name)))} for name in names}
    found = set()
    for name, terms in of_name.items():
        others = [each for other, each in of_name.items() if other != name]
        own = terms - frozenset().union(*others)
        if any(term[6:] in about if term.startswith("about ") else holds(said, term) for term in own):
            found.add(name)
    return found
