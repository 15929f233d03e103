"""The words of one language and what they are in English, from a file of `glossaries/`.

A line is English, a tab, then forms separated by commas. A form is a word, a phrase, or either with stems:
`zabij*` stands for every word that begins so. Where several forms fit, that of the most words counts, of
those the one that fits more letters. Chinese and Japanese have no blanks: there a form may begin anywhere,
and the longest one counts. Arabic and Hebrew write articles, prepositions and persons onto a word, Korean
its particles: they are taken off where the word as it stands is not known.

It is no grammar: a stem may begin another word too. `glossary.py` says how it is used.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

GLOSSARIES = Path(__file__).with_name("glossaries")

_LETTERS = str.maketrans(
    {"ı": "i", "ł": "l", "đ": "d", "ø": "o", "ς": "σ", "ى": "ي", "ة": "ه", "ـ": None, "’": None, "'": None}
)
_SIMPLIFIED = str.maketrans(
    "殺們個麼樣嗎為這裡裏沒會該應須說訴講寫幫買賣錢銀業務員營虧損價債險貸帳賬號碼網絡"
    "電腦機話鄰槍彈藥製發現報復屍體傷擊襲強姦綁誘脅嚇詐騙偽證護稅賄賂監視聽竊盜搶跡無"
    "滅絕蟲猶種愛歲兒媽婦開關閉結終過還給與從來對幾誰處計劃組織車飯氣時間區別負財額銷"
    "漲減費資購併內謝請醫長後國難",
    "杀们个么样吗为这里里没会该应须说诉讲写帮买卖钱银业务员营亏损价债险贷账账号码网络"
    "电脑机话邻枪弹药制发现报复尸体伤击袭强奸绑诱胁吓诈骗伪证护税贿赂监视听窃盗抢迹无"
    "灭绝虫犹种爱岁儿妈妇开关闭结终过还给与从来对几谁处计划组织车饭气时间区别负财额销"
    "涨减费资购并内谢请医长后国难",
)
"""Traditional Chinese characters of the glossary's words."""
_LEAST_STEM = 2
_LEAST_LEFT = 2
"""Letters that must be left of a word without what was written onto it."""

_PARTICLES = "에서는 에서 으로 에게 까지 부터 들을 들이 들은 을 를 이 가 은 는 의 에 로 도 만 과 와 들"
_ONTO_THE_FRONT: Mapping[str, tuple[str, ...]] = {
    "ar": ("وال", "بال", "فال", "كال", "لل", "ال", "و", "ف", "ب", "ل", "س", "ا", "ي", "ت", "ن"),
    "he": ("וה", "שה", "מה", "ה", "ו", "ב", "ל", "כ", "מ", "ש"),
}
_ONTO_THE_END: Mapping[str, tuple[str, ...]] = {
    "ar": ("ها", "هم", "ين", "ون", "ات", "نا", "ي", "ه", "ك"),
    "he": ("ים", "ות", "י", "ו", "ה"),
    "ko": tuple(_PARTICLES.split()),
}


def folded(word: str) -> str:
    """Return a word in small letters without accents, for comparison."""
    decomposed = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).translate(_LETTERS)


def toned(word: str) -> str:
    """Return a word in small letters with its accents: without them most of Vietnamese is one word."""
    return unicodedata.normalize("NFC", word.lower())


@dataclass(frozen=True, slots=True)
class _Form:
    english: str
    words: tuple[str, ...]
    """Folded; one that is a stem ends in `*`."""


@dataclass(slots=True)
class Lexicon:
    """The glossary of a language. `translate` is for words, `translate_run` for scripts without blanks."""

    language: str
    _whole: dict[str, list[_Form]] = field(default_factory=dict)
    """By the first word."""
    _stems: dict[str, list[_Form]] = field(default_factory=dict)
    _parts: dict[str, str] = field(default_factory=dict)
    _longest: int = 1
    _longest_stem: int = 0
    _fronts: tuple[str, ...] = ()
    _ends: tuple[str, ...] = ()

    @classmethod
    def load(cls, language: str) -> Lexicon:
        """Return the glossary of a language that has a file; raises OSError where it has none."""
        lexicon = cls(language)
        lexicon._fronts = _ONTO_THE_FRONT.get(language, ())
        # Folded, as Korean is compared by its letters, of which a syllable has two or three.
        lexicon._ends = tuple(map(lexicon.fold, _ONTO_THE_END.get(language, ())))
        text = (GLOSSARIES / f"{language}.tsv").read_text(encoding="utf-8")
        for line in text.splitlines():
            english, forms = line.split("\t")
            for form in forms.split(","):
                lexicon._add(english, form)
        return lexicon

    def fold(self, word: str) -> str:
        """Return a word as this language compares it."""
        return toned(word) if self.language == "vi" else folded(word)

    def translate(self, words: list[str]) -> list[str | None]:
        """Return for each folded word its English; None where it is unknown, "" within a phrase."""
        found: list[str | None] = []
        while len(found) < len(words):
            form = self._longest_form(words, len(found))
            found.append(form.english if form else None)
            found += [""] * (len(form.words) - 1 if form else 0)
        return found

    def words(self) -> set[str]:
        """Return all folded words of the forms, also those within phrases; stems end in `*`."""
        forms = [form for index in (self._whole, self._stems) for each in index.values() for form in each]
        return {word for form in forms for word in form.words}

    def translate_run(self, run: str) -> list[str]:
        """Return the English of a run without blanks; what is unknown in it is left out."""
        if self.language == "zh":
            run = run.translate(_SIMPLIFIED)
        found, place = [], 0
        while place < len(run):
            for length in range(min(self._longest, len(run) - place), 0, -1):
                english = self._parts.get(run[place : place + length])
                if english is not None:
                    found.append(english)
                    place += length
                    break
            else:
                place += 1
        return found

    def _add(self, english: str, form: str) -> None:
        self._parts.setdefault(form, english)
        self._longest = max(self._longest, len(form))
        words = tuple(self.fold(word.rstrip("*")) + "*" * word.endswith("*") for word in form.split())
        index = self._stems if words[0].endswith("*") else self._whole
        if words[0].endswith("*"):
            self._longest_stem = max(self._longest_stem, len(words[0]) - 1)
        index.setdefault(words[0].rstrip("*"), []).append(_Form(english, words))

    def _longest_form(self, words: list[str], place: int) -> _Form | None:
        for word in self._variants(words[place]):
            found = list(self._whole.get(word, ()))
            for length in range(min(len(word), self._longest_stem), _LEAST_STEM - 1, -1):
                found += self._stems.get(word[:length], ())
            fitting = [form for form in found if self._goes_on(form, words, place)]
            if fitting:
                # The first of equals: whole words stand before stems, longer stems before shorter ones.
                return max(fitting, key=lambda form: len(form.words))
        return None

    def _goes_on(self, form: _Form, words: list[str], place: int) -> bool:
        if place + len(form.words) > len(words):
            return False
        return all(
            any(fits(expected, variant) for variant in self._variants(words[place + number]))
            for number, expected in enumerate(form.words)
            if number
        )

    def _variants(self, word: str) -> Iterator[str]:
        """Yield a word as it stands, then without what may be written onto it."""
        yield word
        if not self._fronts and not self._ends:
            return
        fronts = ("", *(each for each in self._fronts if word.startswith(each)))
        ends = ("", *(each for each in self._ends if word.endswith(each)))
        for end in ends:
            for front in fronts:
                left = word[len(front) : len(word) - len(end)]
                if len(left) >= _LEAST_LEFT and left != word:
                    yield left


def fits(expected: str, word: str) -> bool:
    """Return whether a word is a form's word, or begins with its stem."""
    return word.startswith(expected[:-1]) if expected.endswith("*") else word == expected
