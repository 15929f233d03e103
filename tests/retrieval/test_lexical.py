from __future__ import annotations

import numpy as np

from openchatkit.retrieval.lexical import LexicalIndex, terms


def test_terms_drop_endings_and_words_of_no_weight() -> None:
    assert terms("What did the acquisitions cost?") == terms("acquisition costs")
    assert terms("Corvane's R&D") == {"corvan", "r&d", "research", "development"}
    assert {"2025", "1,284"} <= terms("€1,284 in 2025.")


def test_coverage_is_a_share_and_weighs_rare_words_most() -> None:
    rows = [dict.fromkeys(terms(text), 1.0) for text in ("orla revenue", "acme revenue", "ring revenue", "x")]
    coverage = LexicalIndex(rows).coverage("What was the revenue of Orla?")
    assert coverage[0] == 1.0
    assert 0 < coverage[1] == coverage[2] < 0.5
    assert coverage[3] == 0


def test_words_that_stand_nowhere_count_for_nothing() -> None:
    index = LexicalIndex([{"orla": 1.0}])
    assert index.coverage("zebra orla")[0] == 1.0
    np.testing.assert_array_equal(index.coverage("zebra"), [0.0])
    assert LexicalIndex([]).coverage("orla").shape == (0,)
