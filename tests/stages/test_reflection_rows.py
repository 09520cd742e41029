# SPDX-License-Identifier: Apache-2.0
"""Which tokens stage `reflection_sft` trains on, of which kind, and in which order."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from llamafactory_mmself import _autoload


_autoload.activate()

from llamafactory_mmself.plugin import lf  # noqa: E402
from llamafactory_mmself.stages.base import SettingError  # noqa: E402
from llamafactory_mmself.stages.reflection_sft.losses import summed_weights, token_losses  # noqa: E402
from llamafactory_mmself.stages.reflection_sft.pairs import (  # noqa: E402
    PairSampler,
    groups_of,
    packed_order,
    torn_groups,
)
from llamafactory_mmself.stages.reflection_sft.rows import (  # noqa: E402
    KindConverter,
    KindProcessor,
    PackedKindProcessor,
    last_answer_only,
)
from llamafactory_mmself.stages.reflection_sft.settings import parse_kind_weights, table_of_weights  # noqa: E402
from llamafactory_mmself.toyworld.models import TEMPLATES  # noqa: E402


pytestmark = pytest.mark.filterwarnings("default")

TALK = [("What is it?", "A square."), ("Which colour?", "It is red."), ("How many?", "Two of them.")]


@pytest.fixture
def encode(tiny_models, project_root):
    """Tokenises rows of several turns; returns the inputs, the tokenizer and the id of image tokens."""
    from llamafactory.hparams import get_infer_args

    def make(template, *talks, kinds=("none",), packed=False, picture=True, **data):
        family = "llava"
        model_args, data_args, _, _ = get_infer_args(
            {"model_name_or_path": str(tiny_models(family)), "template": TEMPLATES[family]}
        )
        modules = lf.load_tokenizer(model_args)
        data_args.template = template
        chat = lf.load_template(modules["tokenizer"], data_args)
        settings = {"mask_history": False, "train_on_prompt": False, "cutoff_len": 2048, "neat_packing": False}
        arguments = SimpleNamespace(**{**settings, **data})
        names = tuple(dict.fromkeys(("none", *kinds)))
        own = {"kinds": names, "told_apart": True, "pairs": not packed}
        maker = PackedKindProcessor if packed else KindProcessor
        processor = maker(chat, modules["tokenizer"], modules["processor"], arguments, **own)
        image = str(project_root / "data" / "images" / "0001.png")
        rows = {name: [] for name in ("_prompt", "_response", "_system", "_tools", "_images", "_videos", "_audios")}
        for talk in talks:
            turns = [
                {"role": role, "content": text}
                for turn in talk
                for role, text in zip(("user", "assistant"), turn, strict=True)
            ]
            if picture:
                turns[0]["content"] = "<image>" + turns[0]["content"]
            rows["_prompt"].append(turns[:-1])
            rows["_response"].append(turns[-1:])
            rows["_images"].append([image] if picture else None)
            for name in ("_system", "_tools"):
                rows[name].append("")
            for name in ("_videos", "_audios"):
                rows[name].append(None)
        inputs = processor.preprocess_dataset({**rows, "_kind": list(kinds), "_pair": [""] * len(talks)})
        return inputs, modules["tokenizer"]

    return make


def trained(inputs, tokenizer, row=0):
    """The text that a row trains on."""
    return tokenizer.decode([label for label in inputs["labels"][row] if label >= 0])


@pytest.mark.parametrize("template", ["llava", "yi_vl"])  # the second writes ends of answers before the next question
def test_answers_are_trained_and_prompts_and_pictures_are_not(encode, template):
    inputs, tokenizer = encode(template, TALK)
    ids, labels = inputs["input_ids"][0], inputs["labels"][0]
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert ids.count(image) > 1 and image not in labels
    end = tokenizer.eos_token_id
    assert all(label in (-100, token, end) for label, token in zip(labels, ids, strict=True))
    text = trained(inputs, tokenizer)
    assert all(answer in text for _, answer in TALK) and not any(question in text for question, _ in TALK)
    assert labels.count(end) == 3


@pytest.mark.parametrize("template", ["llava", "yi_vl"])
def test_masked_history_leaves_nothing_in_not_even_its_ends(encode, template):
    inputs, tokenizer = encode(template, TALK, mask_history=True)
    labels = inputs["labels"][0]
    assert labels.count(tokenizer.eos_token_id) == 1 and labels[-1] == tokenizer.eos_token_id
    text = trained(inputs, tokenizer)
    assert "Two of them." in text and "square" not in text and "red" not in text
    whole, _ = encode(template, TALK)
    assert inputs["input_ids"] == whole["input_ids"]


def test_columns_that_are_switched_off_are_not_read():
    """`"kind": null` in dataset_info.json: the rows' own `kind` means something else."""
    row = {"kind": "photo", "pair": 3}
    assert KindConverter(dict, "rows", {})(row) == {**row, "_kind": "none", "_pair": ""}
    kept = KindConverter(dict, "rows", {"kind": "kind"})(row)
    assert kept["_kind"] == "photo" and kept["_pair"] == ""


def test_train_on_prompt_trains_everything(encode):
    inputs, _ = encode("llava", TALK, train_on_prompt=True, picture=False)
    assert inputs["labels"] == inputs["input_ids"]


def test_last_answer_only():
    assert last_answer_only([2, -100, 5, -100, -100, 6, 7]) == [-100] * 5 + [6, 7]
    assert last_answer_only([5, 6]) == [5, 6]


def test_kinds_stand_beside_labels(encode):
    inputs, _ = encode("llava", TALK, TALK[:1], kinds=("cot", "refine"))
    for row, kind in enumerate((1, 2)):
        wanted = [0 if label < 0 else kind for label in inputs["labels"][row]]
        assert inputs["kinds"][row] == wanted
    assert inputs["pair"] == ["", ""]


@pytest.mark.parametrize("neat", [False, True])
def test_kinds_follow_packed_tokens(encode, neat):
    """Three rows of different lengths in one: each token has the kind of its own row."""
    talks, kinds = (TALK, TALK[:1], TALK[:2]), ("cot", "refine", "select")
    packed, tokenizer = encode("llava", *talks, kinds=kinds, packed=True, neat_packing=neat, cutoff_len=400)
    alone, _ = encode("llava", *talks, kinds=kinds)
    assert len(packed["labels"]) == 1 and "pair" not in packed
    labels, ids = packed["labels"][0], packed["kinds"][0]
    assert len(labels) == len(ids) == 401 and max(labels) < len(tokenizer)
    for place in (1, 2, 3):
        found = [label for label, kind in zip(labels, ids, strict=True) if label >= 0 and kind == place]
        assert found == [label for label in alone["labels"][place - 1] if label >= 0]


def test_token_losses_are_cross_entropies():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 11, requires_grad=True)
    labels = torch.tensor([[-100, 3, 4, -100, 5], [-100, -100, 1, 2, -100]])
    kinds = torch.tensor([[0, 1, 1, 0, 2], [0, 0, 2, 2, 0]])
    losses = token_losses(logits, labels, kinds)
    stock = F.cross_entropy(logits[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1), reduction="sum")
    assert losses.values.sum().item() == pytest.approx(stock.item(), rel=1e-6)
    table = losses.by_kind(2, 3)
    assert table[:, 1].tolist() == [[0, 2, 1], [0, 0, 2]]
    assert table[:, 0].sum().item() == pytest.approx(stock.item(), rel=1e-6)
    weights = torch.tensor([1.0, 2.0, 0.5])
    assert summed_weights(labels, kinds, weights) == 2 * 2 + 3 * 0.5
    expected = 2 * table[:, 0, 1].sum() + 0.5 * table[:, 0, 2].sum()
    assert losses.weighted_sum(weights).item() == pytest.approx(expected.item(), rel=1e-6)
    empty = token_losses(logits, torch.full_like(labels, -100), kinds)
    assert empty.weighted_sum(weights).item() == 0 and empty.weighted_sum(weights).requires_grad


def test_groups_are_rows_of_one_pair():
    assert groups_of(["a", "", "b", "a", ""]) == [[0, 3], [1], [2], [4]]


def test_pairs_stay_in_one_batch_where_they_fit():
    """Pairs, threes and single rows in batches of four."""
    sizes = [2, 1, 1, 3, 1, 2, 2, 1, 3, 1, 1, 2, 1, 1, 1, 1]
    rows = iter(range(sum(sizes)))
    groups = [[next(rows) for _ in range(size)] for size in sizes]
    order = list(packed_order(groups, 4))
    assert sorted(order) == list(range(sum(sizes)))
    assert torn_groups(groups, order, 4) == 0
    for group in groups:
        places = [order.index(row) for row in group]
        assert places == list(range(places[0], places[0] + len(group)))
    threes = [[0, 1, 2], [3, 4, 5]]
    assert list(packed_order(threes, 2)) == list(range(6)) and torn_groups(threes, range(6), 2) == 2


def test_orders_depend_on_seed_and_epoch_only():
    groups = [[2 * place, 2 * place + 1] for place in range(20)]
    sampler, other = PairSampler(groups, 4, 1), PairSampler(groups, 4, 1)
    first = list(sampler)
    assert first == list(other) and sorted(first) == list(range(40)) == list(PairSampler(groups, 4, None))
    sampler.set_epoch(3)
    other.set_epoch(3)
    assert first != list(sampler) == list(other)
    assert list(PairSampler(groups, 4, 2)) != first


@pytest.mark.parametrize(
    "given", ["cot=1,refine=0.5", " cot = 1 , refine = .5 ", '{"cot": 1, "refine": 0.5}', {"cot": 1, "refine": "0.5"}]
)
def test_kind_weights_in_all_forms(given):
    assert parse_kind_weights(given) == {"cot": 1.0, "refine": 0.5}


@pytest.mark.parametrize("given", ["cot", "=1", "cot=x", "cot=nan", "cot=true", '{"cot"}', "cot=1,cot=2", "[1]", ","])
def test_bad_kind_weights(given):
    with pytest.raises(SettingError, match="kind_weights"):
        parse_kind_weights(given)


def test_the_table_of_weights():
    kinds, present = ("none", "cot", "refine"), {"cot", "refine"}
    assert table_of_weights({"cot": 2.0}, kinds, present) == [1.0, 2.0, 1.0]
    with pytest.raises(SettingError, match=r"names `none`.*cot, refine"):
        table_of_weights({"none": 1.0}, kinds, present)
    with pytest.raises(SettingError, match="weight 0"):
        table_of_weights(json.loads('{"cot": 0, "refine": 0}'), kinds, present)
