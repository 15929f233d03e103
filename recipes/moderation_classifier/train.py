"""Train the moderation classifier on its examples, and measure it on topics it has not seen.

    .venv/bin/python -m recipes.moderation_classifier.train

About a minute on two cores. It writes `handler/openchatkit/moderation/classifier.safetensors` and
`recipes/moderation_classifier/report.json`. Run it after every change of `examples.jsonl`,
`glossary.tsv`, `glossaries/`, `disguise.py` or the features; a test compares the examples' digest.

Figures are out of fold. `by_topic` leaves whole topics out, the harmless look-alikes of a topic together
with its harmful requests: how well the classifier tells harm of a kind it was never shown. `by_example`
leaves out single examples: new wordings of known topics, which is what a deployment meets.

Beside the examples it learns beginnings of their harmless prose: a streamed reply is judged in windows
that may end in mid-sentence, and half a harmless sentence ("They want to use the money to") is harmless.
Beginnings of harmful texts are left out, for many of them say nothing yet. No figure counts a beginning,
and one is left out of training together with its sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from openchatkit.moderation import embedding_classifier as classifier
from openchatkit.moderation.disguise import clean, unfold
from openchatkit.moderation.labels import CATEGORIES, HARMFUL, LABELS, SEVERITY, verdict_from_scores
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory

REPORT = Path(__file__).with_name("report.json")
FOLDS = 6
SEED = 20
DECAY = 0.4
"""Weight of the squared coefficients beside the summed loss; from 0.1, 0.2, 0.4, 0.8 by `by_topic`."""
ORDINARY = (
    "filings",
    "finance_terms",
    "small_talk",
    "leisure",
    "household",
    "everyday",
    "coding",
)
"""Topics of questions that must not be overridden."""
FINANCE_AND_SMALL_TALK = ("filings", "finance_terms", "small_talk")
PROSE = ("finance_prose", "replies")
"""Topics that read like a reply; their harmless texts are learnt in part too."""
BEGINNING_WORDS = (4, 7, 11)
"""Lengths of the beginnings. The first window of a reply has about 12 tokens."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """A line of `examples.jsonl`. With `bot` it is a reply in the context of `text`."""

    topic: str
    language: str
    label: str
    text: str
    bot: str | None = None

    @property
    def reading(self) -> str:
        """The text as the classifier reads it, disguises undone."""
        if self.bot is not None:
            return classifier.in_context(self.text, unfold(self.bot))
        return unfold(self.text)

    @property
    def harmful(self) -> bool:
        """Whether the label is one of the two harmful ones."""
        return self.label in HARMFUL


def read_examples(path: Path = classifier.EXAMPLES) -> list[Example]:
    """Return the examples of a file."""
    return [Example(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def beginnings(example: Example) -> list[Example]:
    """Return what a window may hold of an example while it is being streamed; most have none."""
    if example.harmful or example.topic not in PROSE:
        return []
    words = (example.text if example.bot is None else example.bot).split()
    cut = [" ".join(words[:length]) for length in BEGINNING_WORDS if length < len(words)]
    field = "text" if example.bot is None else "bot"
    return [replace(example, **{field: text}) for text in cut]


def fit(features: Matrix, classes: NDArray[np.int64], count: int, decay: float = DECAY) -> Matrix:
    """Return the coefficients of a multinomial logistic regression, shape `(features + 1, count)`.

    L-BFGS in double precision on one thread's order of sums: the same input gives the same output.
    """
    inputs = torch.from_numpy(np.hstack([features, np.ones((len(features), 1))])).double()
    targets = torch.from_numpy(classes)
    weights = torch.zeros((inputs.shape[1], count), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=120, tolerance_grad=1e-3, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs @ weights, targets, reduction="sum")
        value = value + decay / 2 * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy()


def predict(features: Matrix, weights: Matrix) -> Matrix:
    """Return the probabilities, shape `(n, classes)`."""
    logits = features @ weights[:-1] + weights[-1]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def auroc(scores: Matrix, positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive one scores above a negative one, ties counted half."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def out_of_fold(features: Matrix, classes: NDArray[np.int64], folds: NDArray[np.int64]) -> Matrix:
    """Return each example's probabilities from the model that was trained without its fold."""
    result = np.zeros((len(classes), len(LABELS)))
    for fold in range(FOLDS):
        held = folds == fold
        result[held] = predict(features[held], fit(features[~held], classes[~held], len(LABELS)))
    return result


def folds_of(groups: Sequence[str]) -> NDArray[np.int64]:
    """Return a fold for every example, the same for all of one group."""
    names = sorted(set(groups))
    order = np.random.default_rng(SEED).permutation(len(names))
    fold = {names[place]: number % FOLDS for number, place in enumerate(order)}
    return np.array([fold[group] for group in groups])


def measure(examples: Sequence[Example], probabilities: Matrix) -> dict[str, Any]:
    """Return the figures of out-of-fold probabilities under the default policy."""
    harm = probabilities @ np.array([SEVERITY[label] for label in LABELS])
    harmful = np.array([example.harmful for example in examples])
    policy = ModerationPolicy.load()
    blocked = np.array(
        [
            policy.decide(verdict_from_scores(dict(zip(LABELS, row.tolist(), strict=True))), "input").blocked
            for row in probabilities
        ]
    )

    def share(chosen: Callable[[Example], bool]) -> float:
        return round(float(blocked[[chosen(example) for example in examples]].mean()), 4)

    languages = sorted({example.language for example in examples})
    by_language = {
        language: auroc(harm[mask], harmful[mask])
        for language in languages
        if (mask := np.array([example.language == language for example in examples])).any()
    }
    return {
        "auroc": round(auroc(harm, harmful), 4),
        "auroc_by_language": {language: round(value, 3) for language, value in by_language.items()},
        "overridden_ordinary": share(lambda each: each.topic in ORDINARY and not each.harmful),
        "overridden_finance_and_small_talk": share(lambda each: each.topic in FINANCE_AND_SMALL_TALK),
        "overridden_prose": share(lambda each: each.topic == "finance_prose"),
        "overridden_by_label": {
            label: share(lambda each, label=label: each.label == label)  # type: ignore[misc]
            for label in LABELS
        },
    }


def evaluate(
    examples: Sequence[Example], parents: Sequence[int], features: Matrix, classes: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the report: figures on topics left out, and on examples left out.

    `features` and `classes` go on behind the examples with beginnings; `parents` says of which example.
    """
    by_topic = folds_of([examples[parent].topic for parent in parents])
    by_example = folds_of([str(parent) for parent in parents])
    return {
        "examples": len(examples),
        "examples_sha256": digest(),
        "labels": {label: sum(each.label == label for each in examples) for label in LABELS},
        "by_topic": measure(examples, out_of_fold(features, classes, by_topic)[: len(examples)]),
        "by_example": measure(examples, out_of_fold(features, classes, by_example)[: len(examples)]),
    }


def digest() -> str:
    """Return the SHA-256 of the examples as they lie on disk."""
    return hashlib.sha256(classifier.EXAMPLES.read_bytes()).hexdigest()


def rotate(features: Matrix) -> tuple[Matrix, Matrix]:
    """Return features in the basis of their own row space, and that basis.

    The penalty does not change under rotation and the solution lies in the row space, so a fit on the
    rotated features is the same fit, at a third of the columns.
    """
    _, _, basis = np.linalg.svd(features, full_matrices=False)
    return features @ basis.T, basis


def load_features(examples: Sequence[Example]) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the features and the label numbers of examples."""
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    seen = classifier.features(encoder, [clean_lines(example.reading) for example in examples])
    classes = np.array([LABELS.index(example.label) for example in examples])
    return seen.astype(np.float64), classes


def clean_lines(text: str) -> str:
    """Return each line cleaned; the line break between a text and its reply stays."""
    return "\n".join(clean(line) for line in text.split("\n"))


def train_categories(examples: Sequence[Example], embeddings: Matrix) -> tuple[Matrix, list[str]]:
    """Return coefficients that tell the topic of a harmful text, and the topics' names."""
    told = [
        place
        for place, each in enumerate(examples)
        if each.harmful and each.topic in harmful_topics(examples)
    ]
    names = sorted({examples[place].topic for place in told})
    assert tuple(names) == CATEGORIES, "labels.CATEGORIES names the kinds of harm"
    classes = np.array([names.index(examples[place].topic) for place in told])
    return fit(embeddings[told], classes, len(names), decay=0.2), names


def harmful_topics(examples: Sequence[Example]) -> set[str]:
    """Return the topics that are a kind of harm; the others mix kinds."""
    return {each.topic for each in examples if each.harmful} - {"replies", "disguised", "manipulation"}


def main() -> None:
    """Train, measure and write both files."""
    examples = read_examples()
    cut = [(place, part) for place, each in enumerate(examples) for part in beginnings(each)]
    features, classes = load_features([*examples, *(part for _, part in cut)])
    rotated, basis = rotate(features)
    report = evaluate(examples, [*range(len(examples)), *(place for place, _ in cut)], rotated, classes)
    weights = fit(rotated, classes, len(LABELS))
    weights = np.vstack([basis.T @ weights[:-1], weights[-1:]])
    embeddings = features[: len(examples), : -classifier.NGRAM_BUCKETS]
    categories, names = train_categories(examples, embeddings)
    save_file(
        {"labels": weights.astype(np.float32), "categories": categories.astype(np.float32)},
        classifier.COEFFICIENTS,
        metadata={
            "labels": json.dumps(LABELS),
            "categories": json.dumps(names),
            "examples_sha256": digest(),
        },
    )
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
