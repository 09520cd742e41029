# SPDX-License-Identifier: Apache-2.0
"""A small byte-level BPE tokenizer, trained on the toy world's own text; any Unicode text comes back unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from ..choices import random_question
from ..forms import tagged
from ..rationales import rationale, tagged_answer
from ..scenes import COLOURS, SHAPES, answer, caption, contradict, questions, random_scene, sentence
from ..start import start_rows


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 1280
MODEL_MAX_LENGTH = 2048
_CORPUS_SCENES = 400

# Words split as in the large models: a cut after a blank line or before a tag then falls between two tokens.
# An option's letter with its brackets, a thing and a number are one piece each: what a question, an option and a
# picture's description have in common is then a token, and a tiny model learns to compare them from few rows.
_PIECES = (
    r" (?=\([A-Z]\))",
    r"\([A-Z]\)",
    rf" ?(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word with the space before it
    r" ?\p{N}",  # one digit with the space before it
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # punctuation with the line ends after it
    r"\s*[\r\n]+",  # line ends
    r"\s+(?!\S)",  # spaces but for the last one before a word
    r"\s+",
)

# Words of prompts, system messages and corrections that scenes alone would not teach.
_WORDS = """
system user assistant human you are is was be a an the this that these those it its I we your my and or not but of in
on at to from by with between for as than then so if when because please helpful question questions answer answers
image images picture pictures photo response example better clear clearer accurate step think thought look see find
found count describe description caption summary reasoning conclusion rationale option options choose choice choices
correct wrong right left above below next row rows top middle bottom nothing empty grid cell cells place shape shapes
object objects colour color colours colors number how many what which where who why does do there here yes no true
false only all any some every each first second third last one two three four five six seven eight nine ten zero
write give gives explain shows show holds hold contains detailed detail polite curious artificial intelligence chat
critique review refine improve mistake mistakes error errors careful carefully again instead score judge reference
chosen rejected final letter letters following given based visible scene
"""


def corpus() -> Iterator[str]:
    """Yields the training text: prompts, captions, answers, rationales and choices about a fixed set of scenes."""
    rng = Random(0)
    for word in _WORDS.split():
        yield " ".join((word, word.capitalize()) * 20)
    for _ in range(_CORPUS_SCENES):
        scene = random_scene(rng, rows=rng.choice((2, 3)), columns=rng.choice((2, 3)))
        other = contradict(scene, rng)
        yield caption(scene)
        for question in rng.sample(questions(scene), k=8):
            short = answer(question, scene)
            yield f"{question.text}\n{sentence(question, short)} {rationale(question, scene)}"
            yield f"{tagged_answer(question, scene)}\n\nThe answer is {short}."
            yield f"(A) {short} (B) {answer(question, other) or 'nothing'}\nAnswer: {rng.choice('ABCD')}"
        asked = random_question(rng, scene, "")
        yield f"{asked.block}\n{tagged(asked, scene)}"
    for row in start_rows([random_scene(rng) for _ in range(_CORPUS_SCENES)], rng):
        yield f"{row.prompt}\n{row.target}"


def train_tokenizer(
    special_tokens: tuple[str, ...],
    roles: dict[str, str],
    extra_special_tokens: tuple[str, ...] = (),
    prepend: str | None = None,
) -> PreTrainedTokenizerFast:
    """Trains the tokenizer; the special tokens take the last ids, in the order given.

    Args:
        special_tokens: tokens that stand for themselves and never split.
        roles: `bos_token`, `eos_token`, `pad_token` ... to one of them each.
        extra_special_tokens: those that have no role and should be listed as special all the same.
        prepend: a special token put before each text unless `add_special_tokens=False`.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(_PIECES)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    bpe.add_special_tokens([AddedToken(token, special=True) for token in special_tokens])
    if prepend:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{prepend} $A",
            pair=f"{prepend} $A {prepend} $B",
            special_tokens=[(prepend, bpe.token_to_id(prepend))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        model_max_length=MODEL_MAX_LENGTH,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=[token for token in extra_special_tokens if token not in roles.values()],
        **roles,
    )
