"""Forms of a glossary: stems, phrases, what is written onto words, scripts without blanks."""

from __future__ import annotations

import pytest

from openchatkit.moderation.lexicon import Lexicon, fits, folded, toned


def translated(language: str, text: str) -> list[str | None]:
    lexicon = Lexicon.load(language)
    return lexicon.translate([lexicon.fold(word) for word in text.split()])


class TestWords:
    def test_accents_and_capitals_do_not_count(self) -> None:
        assert folded("ZŁOŚĆ") == "zlosc"
        assert folded("ΤΡΌΠΟΣ") == folded("τροποσ")
        assert folded("İstanbul") == "istanbul"
        assert folded("أُرِيد") == "اريد"

    def test_those_of_vietnamese_do(self) -> None:
        assert toned("Bán") != toned("bạn")
        assert translated("vi", "bán") == ["sell"]
        assert translated("vi", "bạn") == ["you"]

    def test_a_stem_fits_what_begins_so(self) -> None:
        assert fits("zabij*", "zabijesz")
        assert not fits("zabij", "zabijesz")

    def test_an_unknown_word_has_no_english(self) -> None:
        assert translated("pl", "zabijesz xyzzy") == ["kill", None]

    def test_the_longer_form_counts(self) -> None:
        assert translated("pl", "podatek") == ["tax"]
        assert translated("pl", "praca") == ["work"]


class TestPhrases:
    def test_a_phrase_counts_before_its_words(self) -> None:
        assert translated("pl", "zabić czas") == ["kill time", ""]
        assert translated("pl", "zabić sąsiada") == ["kill", "neighbour"]

    def test_it_may_hold_stems(self) -> None:
        assert translated("tr", "yaşamak istemiyorum artık")[:2] == ["do not want to live", ""]

    def test_half_of_one_at_the_end_is_none(self) -> None:
        assert translated("pl", "zabić") == ["kill"]


class TestWrittenOntoWords:
    @pytest.mark.parametrize("word", ["قنبلة", "القنبلة", "بالقنبلة", "والقنبلة"])
    def test_arabic_articles_and_prepositions_are_taken_off(self, word: str) -> None:
        assert translated("ar", word) == ["bomb"]

    @pytest.mark.parametrize("word", ["בנק", "הבנק", "לבנק"])
    def test_hebrew_ones_are_too(self, word: str) -> None:
        assert translated("he", word) == ["bank"]

    @pytest.mark.parametrize("word", ["회사", "회사는", "회사에서", "회사의"])
    def test_korean_particles_are_too(self, word: str) -> None:
        assert translated("ko", word) == ["company"]

    def test_a_korean_stem_may_end_within_a_syllable(self) -> None:
        assert translated("ko", "죽인") == ["kill"]


class TestRuns:
    def test_the_longest_form_counts(self) -> None:
        chinese = Lexicon.load("zh")
        assert chinese.translate_run("杀毒软件") == ["antivirus"]
        assert chinese.translate_run("杀了") == ["kill"]

    def test_traditional_characters_are_read_too(self) -> None:
        assert Lexicon.load("zh").translate_run("殺死鄰居") == ["kill", "neighbour"]

    def test_what_is_unknown_is_left_out(self) -> None:
        assert Lexicon.load("ja").translate_run("龘爆弾龘") == ["bomb"]
        assert Lexicon.load("ja").translate_run("龘") == []


def test_a_language_without_a_file_is_refused() -> None:
    with pytest.raises(OSError, match="xx"):
        Lexicon.load("xx")
