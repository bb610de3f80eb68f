"""Units, temperatures and currencies."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.expert import Look, Plan
from benchmark.worlds.other.families.family import choice_of, common, family, plan_of
from benchmark.worlds.other.reckoning import UNITS, decimal_text
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task

# (unit, its name in both languages, the unit that is asked for, its name in both languages)
_UNIT_QUESTIONS = (
    ("mile", "miles", "마일", "km", "kilometers", "킬로미터"),
    ("km", "kilometers", "킬로미터", "mile", "miles", "마일"),
    ("foot", "feet", "피트", "cm", "centimeters", "센티미터"),
    ("inch", "inches", "인치", "mm", "millimeters", "밀리미터"),
    ("pound", "pounds", "파운드", "g", "grams", "그램"),
    ("kg", "kilograms", "킬로그램", "pound", "pounds", "파운드"),
    ("gallon", "US gallons", "미국 갤런", "liter", "liters", "리터"),
    ("hour", "hours", "시간", "second", "seconds", "초"),
    ("day", "days", "일", "minute", "minutes", "분"),
)


def _draw_unit(draw: Draw) -> dict[str, JsonValue]:
    return {**common(draw), "value": str(draw.number(3, 999))}


def _unit_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    question = choice_of(p["name"], _UNIT_QUESTIONS)
    return {"unit": question[2 if language == "ko" else 1], "to": question[5 if language == "ko" else 4]}


def _convert(name: str, value: str) -> tuple[Look, str]:
    unit, _, _, to, _, _ = choice_of(name, _UNIT_QUESTIONS)
    factors = next(factors for factors in UNITS.values() if unit in factors)
    move = Look("convert_unit", {"value": value, "unit": unit, "to": to})
    return move, decimal_text(Fraction(value) * factors[unit] / factors[to])


def _plan_unit(task: Task) -> Plan:
    p: Any = task.parameters
    move, answer = _convert(p["name"], p["value"])
    return plan_of({p["name"]: answer}, ((move,),))


def _draw_two_units(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_unit(draw), "name_2": draw.word(), "value_2": str(draw.number(3, 999))}


def _two_unit_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    second = _unit_words({"name": p["name_2"]}, language)
    return {**_unit_words(p, language), "unit_2": second["unit"], "to_2": second["to"]}


def _plan_two_units(task: Task) -> Plan:
    p: Any = task.parameters
    (first, one), (second, two) = _convert(p["name"], p["value"]), _convert(p["name_2"], p["value_2"])
    return plan_of({p["name"]: one, p["name_2"]: two}, ((first, second),))


_CURRENCIES = (("dollar", "달러"), ("euro", "유로"), ("pound", "파운드"), ("franc", "프랑"))


def _draw_currency(draw: Draw) -> dict[str, JsonValue]:
    return {
        **common(draw),
        "item": draw.item(),
        "price": str(draw.number(3, 999)),
        "rate": str(draw.number(1000, 1999)),
    }


def _currency_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    lines = []
    for place, (english, korean) in enumerate(_CURRENCIES):
        # Only the rate that counts is a parameter; the others stand beside it.
        is_asked = (english, korean) == choice_of(p["name"], _CURRENCIES)
        rate = int(p["rate"]) + (0 if is_asked else 111 * (place + 1))
        lines.append(f"{korean} {rate}원" if language == "ko" else f"1 {english} = {rate} won")
    english, korean = choice_of(p["name"], _CURRENCIES)
    return {"rates": "; ".join(lines), "currency": korean if language == "ko" else f"{english}s"}


def _plan_currency(task: Task) -> Plan:
    p: Any = task.parameters
    answer = str(int(p["price"]) * int(p["rate"]))
    return plan_of({p["name"]: answer}, ((Look("multiply", {"a": p["price"], "b": p["rate"]}),),))


_TEMPERATURES = (("celsius", "fahrenheit"), ("fahrenheit", "celsius"))


def _draw_temperature(draw: Draw) -> dict[str, JsonValue]:
    return {**common(draw), "value": str(draw.number(3, 99))}


def _plan_temperature(task: Task) -> Plan:
    p: Any = task.parameters
    unit, to = choice_of(p["name"], _TEMPERATURES)
    value = Fraction(p["value"])
    answer = decimal_text(value * 9 / 5 + 32 if to == "fahrenheit" else (value - 32) * 5 / 9)
    return plan_of(
        {p["name"]: answer}, ((Look("convert_temperature", {"value": p["value"], "unit": unit, "to": to}),),)
    )


def _temperature_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    unit, to = choice_of(p["name"], _TEMPERATURES)
    korean = {"celsius": "섭씨", "fahrenheit": "화씨"}
    return {"unit": korean[unit], "to": korean[to]} if language == "ko" else {"unit": unit, "to": to}


UNIT = family(
    "unit", 2, ("convert_unit", "convert_temperature", "multiply"), _draw_unit, _plan_unit,
    ('Save as "{name}" how many {to} are {value} {unit}, rounded to 3 decimals.',
     'Convert {value} {unit} to {to} and save the number (3 decimals) as "{name}".'),
    '{value}{unit}은(는) 몇 {to}입니까? 소수 셋째 자리까지 "{name}"(으)로 저장하세요.',
    phrases=_unit_words, facts=("name", "value"),
)  # fmt: skip


CURRENCY = family(
    "currency", 2, ("multiply", "add", "convert_unit"), _draw_currency, _plan_currency,
    ('{rates}. A {item} costs {price} {currency}; save its price in won as "{name}".',
     'Rates today: {rates}. Save as "{name}" how many won {price} {currency} for a {item} are.'),
    '오늘 환율: {rates}. {item} 가격 {price} {currency}은(는) 몇 원입니까? 숫자만 "{name}"(으)로 저장하세요.',
    phrases=_currency_words, facts=("name", "rate"),
)  # fmt: skip


TWO_UNITS = family(
    "two-units", 4, ("convert_unit", "convert_temperature", "multiply"), _draw_two_units, _plan_two_units,
    ('Convert {value} {unit} to {to} and save it as "{name}"; convert {value_2} {unit_2} to {to_2} and save it as '
     '"{name_2}" (3 decimals).',),
    '{value}{unit}을(를) {to}(으)로 바꿔 "{name}"에, {value_2}{unit_2}을(를) {to_2}(으)로 바꿔 "{name_2}"에 저장하세요'
    "(소수 셋째 자리).",
    phrases=_two_unit_words, facts=("name", "name_2", "value", "value_2"),
)  # fmt: skip


TEMPERATURE = family(
    "temperature", 2, ("convert_temperature", "convert_unit", "multiply"), _draw_temperature, _plan_temperature,
    ('Save as "{name}" how many degrees {to} are {value} degrees {unit}, rounded to 3 decimals.',),
    '{unit} {value}도는 {to} 몇 도입니까? 소수 셋째 자리까지 "{name}"(으)로 저장하세요.',
    phrases=_temperature_words, facts=("name", "value"), held_out=True,
)  # fmt: skip
