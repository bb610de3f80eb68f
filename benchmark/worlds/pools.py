"""Where the values of tasks come from, and why train and test never share one.

A value decides by itself on which side it stands: a word by the CRC-32 of its text, a number by its remainder. Both
rules give every third value to the test split. So a word may stand in several pools (or be added to one later) and is
still never drawn for both splits, whatever the seed. Values that are put together (paths, sentences) are made of values of
one split only.

Words are chosen to be short for a GPT-2 style tokenizer: the quickstart's model reads every one of them on a CPU.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Literal, TypeVar

from benchmark.worlds.world import Split


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = _words(
    "Adam Alice Amy Anna Ben Carl Chris Clara Dan Diana Dora Edith Ella Emma Eric Eva Frank Grace Greg Hannah Henry "
    "Ian Ida Ivan Jack Jane Jonas Julia Karen Kate Kim Laura Leo Lily Linda Lucas Lucy Maria Mark Martin Mary Max Mia "
    "Nina Noah Nora Olga Oliver Oscar Paul Peter Ralph Rita Robert Ruth Sam Sara Simon Steve Susan Thomas Tina Tom "
    "Vera Victor Walter William Zoe"
)
KOREAN_PEOPLE = _words(
    "하은 다은 하준 은우 하윤 은서 예은 하린 은지 민준 서준 도윤 예준 시우 주원 지호 지후 준우 준서 도현 건우 현우 "
    "우진 지훈 선우 서진 민재 현준 연우 유준 정우 승우 승현 시윤 준혁 지환 승민 서연 서윤 지우 서현 민서 지유 윤서 "
    "지민 채원 수아 지아 수빈 지안 소율 예린 수민 미나 소영 나영 정아 수진 지영 영희"
)
WORDS = _words(
    "anchor apple arrow autumn badge bamboo banner barrel beacon berry bishop bottle branch breeze bridge "
    "butter button cactus candle canyon carbon cargo castle cedar chapel cherry circle cloud clover cobalt "
    "comet copper coral cotton crystal dawn desert diamond dragon eagle echo ember engine falcon feather "
    "fern flame forest fossil fountain frost galaxy garden garlic ghost ginger granite grape gravel harbor harvest "
    "helmet honey horizon island ivory jacket jade jasmine jungle kernel kettle ladder lagoon lantern lemon "
    "leopard lime lion lotus magnet mango maple marble melon metal mirror mist moon mountain mustard nectar "
    "needle nickel oak ocean olive onion opal orange orbit orchard orchid otter oxygen palace panda paper pearl "
    "pepper petal pine planet plum pond poppy prairie prism quartz rabbit rain raven reef ribbon ridge "
    "river robin rocket rose ruby saddle sage salmon sand scarlet shadow shell silver sky snow spark spice "
    "spider spring star steel stone storm sugar summit sunset swan tiger timber topaz tower trail tunnel valley "
    "velvet violet walnut water wave whale wheat willow wind winter wolf wood"
)
FOLDERS = _words(
    "archive backup books cards cases clients data docs files forms home images input jobs keys legal letters "
    "library lists logs mail maps media models music notes office orders output pages papers photos posts "
    "projects public queue records reports results scripts shop staff storage students tables tasks temp tests "
    "texts tools uploads users weekly work"
)
ITEMS = _words(
    "bag ball basket bed bell belt bench bike blanket book boots bowl box brush bucket cable cake camera cap car "
    "chair clock coat cup curtain desk dish door drill drum fan flag fork frame glass glove hammer hat hook iron "
    "jar key knife lamp map mask mat mug nail oven paint pan pen phone piano pillow pipe plate pot printer radio ring "
    "rope rug saw scarf shelf shirt shoe soap sofa spoon stool table tape tent tie towel toy tray vase watch wheel"
)
CITIES = _words(
    "Athens Berlin Bern Boston Brussels Cairo Chicago Dallas Delhi Denver Geneva Glasgow Hamburg "
    "Istanbul Lagos Leeds Lima London Lyon Madrid Manila Miami Milan Montreal Moscow Mumbai Naples "
    "Oslo Oxford Paris Perth Rome Seattle Seoul Tokyo Toronto Venice Vienna York"
)

_MODES = tuple(
    int(mode)
    for mode in _words(
        "400 440 444 500 550 555 600 606 640 660 664 666 700 704 705 711 744 750 754 755 764 770 774 775"
    )
)

_TEST_EVERY = 3
_Value = TypeVar("_Value", str, int)


def split_of(value: str | int) -> Split:
    """The split that a single word or number belongs to."""
    rest = value if isinstance(value, int) else zlib.crc32(value.encode("utf-8"))
    return "test" if rest % _TEST_EVERY == 0 else "train"


class Draw:
    """Draws the values of one task: all from one split, no value twice in a task."""

    def __init__(self, seed: str, split: Split, language: Literal["en", "ko"]) -> None:
        self.random = random.Random(seed)
        """For choices between constants of a family, which may be the same in both splits."""
        self._split = split
        self._language = language
        self._drawn: set[str] = set()

    def _one_of(self, pool: Sequence[_Value]) -> _Value:
        while True:
            value = self.random.choice(pool)
            if split_of(value) == self._split and str(value) not in self._drawn:
                self._drawn.add(str(value))
                return value

    def person(self) -> str:
        """A first name, in Korean tasks a Korean one: whom the task is about."""
        return self._one_of(KOREAN_PEOPLE if self._language == "ko" else PEOPLE)

    def korean(self) -> str:
        """A Korean first name in every language, for text that not every encoding writes alike."""
        return self._one_of(KOREAN_PEOPLE)

    def bystander(self) -> str:
        """A first name that only fills the world; never Korean, because that costs tokens."""
        return self._one_of(PEOPLE)

    def word(self) -> str:
        """A noun, for names of files, clients, secrets and tokens."""
        return self._one_of(WORDS)

    def folder(self) -> str:
        """The name of a folder, or of a department that is a client."""
        return self._one_of(FOLDERS)

    def item(self) -> str:
        """Something that can be bought."""
        return self._one_of(ITEMS)

    def city(self) -> str:
        """The name of a city."""
        return self._one_of(CITIES)

    def mode(self) -> str:
        """Permissions of a file in octal, other than the usual 644; its owner may read it."""
        return str(self._one_of(_MODES))

    def number(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return self._one_of(range(low, high + 1))


def filler(seed: str, split: Split, tokens: int) -> str:
    """About `tokens` tokens (as docs/kpis.md counts them) of lines about stores, in which nothing stands that a task needs."""
    rng = random.Random(seed + "-filler")
    words, items = ([value for value in pool if split_of(value) == split] for pool in (WORDS, ITEMS))
    lines = []
    for number in range(1, tokens // 11 + 1):
        first, second = rng.sample(items, 2)
        counts = [3 * rng.randint(34, 3300) + (0 if split == "test" else 1) for _ in range(2)]
        lines.append(f"{number}. {rng.choice(words)} store: {first} {counts[0]}, {second} {counts[1]}.")
    return "\n".join(lines)
