# SPDX-License-Identifier: Apache-2.0
"""A self-correction row as token ids and as a tree: what every sequence says, and which parts are shared."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from llamafactory_mmself import _autoload
from llamafactory_mmself.data.rows import PreferenceRow, Turn
from llamafactory_mmself.data.schema import read_dataset_info
from llamafactory_mmself.losses.sherlock import DPO_ROLES, ROLES, SC_ROLES
from llamafactory_mmself.prompts import Prompt
from llamafactory_mmself.stages.sherlock_dpo.arguments import SherlockArguments
from llamafactory_mmself.stages.sherlock_dpo.encode import SEGMENT_TYPES, SherlockEncoder, encode_sherlock
from llamafactory_mmself.stages.sherlock_dpo.settings import correction_prompt
from llamafactory_mmself.stages.sherlock_dpo.stage import STAGE
from llamafactory_mmself.stages.sherlock_dpo.tree import build_tree


FAMILIES = {"qwen2_vl": "qwen2_vl", "llava": "llava", "mllama": "mllama", "qwen3_vl": "qwen3_vl"}
MLLAMA_USER = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>{}<|eot_id|>"
MLLAMA_ASSISTANT = "<|start_header_id|>assistant<|end_header_id|>\n\n"
SHORT = Prompt("short.txt", "1", "FIX[{question}|{response}]")


@pytest.fixture(scope="module")
def make_encoder(tiny_models):
    """(family, correction prompt, cutoff_len) -> encoder; None is the packaged prompt."""
    _autoload.activate()
    from llamafactory_mmself.plugin import lf

    encoders = {}

    def make(family="mllama", correction=SHORT, cutoff_len=2048):
        if family not in encoders:
            arguments = {
                "model_name_or_path": str(tiny_models(family)),
                "stage": "sherlock_dpo",
                "template": FAMILIES[family],
                "output_dir": "unused",
                "report_to": "none",
            }
            model_args, data_args, *_ = lf.get_train_args(arguments)
            modules = lf.load_tokenizer(model_args)
            template = lf.load_template(modules["tokenizer"], data_args)
            encoders[family] = lf.row_encoder(template, modules["tokenizer"], modules["processor"], cutoff_len)
        encoder = dataclasses.replace(encoders[family], cutoff_len=cutoff_len)
        return SherlockEncoder.of(encoder, correction or correction_prompt(SherlockArguments()))

    return make


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (112, 112), "red").save(path)
    return str(path)


@pytest.fixture
def row(picture):
    """Keyword arguments change the row."""

    def make(**changes):
        values = {
            "prompt": (Turn("user", "<image>\nWhat is it?"),),
            "chosen": "It has four sides. So it is a square.",
            "rejected": ("It has no sides. So it is a circle.",),
            "images": (picture,),
            "prefix": "It has four sides.",
            "prefix_l": "It has no sides.",
            "weight": 0.75,
        }
        return PreferenceRow(key="row", file="rows.json", row=3, system="", tools="", **values | changes)

    return make


def encode_one(row, encoder):
    records, faults = encode_sherlock(row, encoder)
    assert not faults, faults
    (record,) = records
    assert set(record) == set(SEGMENT_TYPES)
    return record


def arguments(**changes):
    return SherlockArguments(**{"refine_beta": 0.25} | changes)


def rows_of(tree, encoder):
    """role -> (unscored text, scored text); scored tokens are always the end of the sequence."""
    texts = {}
    for name, role in tree.roles.items():
        ids = [token for node in tree.path(role.leaf) for token in node.ids]
        assert len(ids) == len(role.scored)
        first = role.scored.index(True)
        assert all(role.scored[first:])
        texts[name] = tuple(encoder.tokenizer.decode(part) for part in (ids[:first], ids[first:]))
    return texts


def test_every_sequence_says_what_the_method_asks_for(make_encoder, row):
    encoder, sample = make_encoder(), row()
    texts = rows_of(build_tree(encode_one(sample, encoder), arguments()), encoder)
    assert tuple(texts) == ROLES

    prefix = {"w": "It has four sides.", "l": "It has no sides."}
    suffix = {"w": " So it is a square.<|eot_id|>", "l": " So it is a circle.<|eot_id|>"}
    shown = {"w": sample.chosen, "l": sample.rejected[0]}
    for name in ("w", "l"):
        user = MLLAMA_USER.format("\nWhat is it?") + MLLAMA_ASSISTANT
        assert texts[f"dpo.{name}"] == (user, prefix[name] + suffix[name])
        user = MLLAMA_USER.format(f"FIX[What is it?|{shown[name]}]") + MLLAMA_ASSISTANT
        for x, y in ("ww", "ll", "wl", "lw"):
            assert texts[f"sc_{name}.{x}{y}"] == (user + prefix[y], suffix[x])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_text_has_the_same_ids_in_all_sequences(make_encoder, row, family):
    """The suffix of a DPO row is the suffix of four correction rows; no text is tokenised in two ways."""
    encoder = make_encoder(family, correction=None)
    record = encode_one(row(), encoder)
    tree = build_tree(record, arguments())
    ids = {name: [token for node in tree.path(role.leaf) for token in node.ids] for name, role in tree.roles.items()}
    scored = {name: [t for t, flag in zip(ids[name], tree.roles[name].scored, strict=True) if flag] for name in ids}
    for group in ("sc_l", "sc_w"):
        for pair, whole in (("ww", "dpo.w"), ("wl", "dpo.w"), ("ll", "dpo.l"), ("lw", "dpo.l")):
            part = scored[f"{group}.{pair}"]
            assert scored[whole][-len(part) :] == part
    given = {"w": scored["dpo.w"][: record["prefix"]], "l": scored["dpo.l"][: record["prefix_l"]]}
    for name in SC_ROLES:
        part = given[name[-1]]
        context = ids[name][: len(ids[name]) - len(scored[name])]
        assert context[-len(part) :] == part


@pytest.mark.parametrize("family", FAMILIES)
def test_what_sequences_share_is_one_node(make_encoder, row, family):
    encoder = make_encoder(family, correction=None)
    tree = build_tree(encode_one(row(), encoder), arguments())
    assert [len(node.media) for node in tree.nodes] == [1] + [0] * (len(tree.nodes) - 1)  # one picture, in the root
    assert len({role.leaf for role in tree.roles.values()}) == 10
    assert len(tree.nodes) == 5 + 2 * 1 + 2 * 1 + 4 + 8  # contexts, DPO prefixes and suffixes, the others' of each

    same = row(rejected=("It has four sides. So it is a cube.",), prefix_l="It has four sides.")
    tree = build_tree(encode_one(same, encoder), arguments())
    leaves = {name: role.leaf for name, role in tree.roles.items()}
    for group in ("sc_l", "sc_w"):
        assert leaves[f"{group}.wl"] == leaves[f"{group}.ww"]
        assert leaves[f"{group}.lw"] == leaves[f"{group}.ll"]
    assert len(set(leaves.values())) == 6
    prefixes = {tree.nodes[leaf].parent for leaf in leaves.values()}
    assert len(prefixes) == 3  # the shared prefix after the question and after each example


def test_no_prefix(make_encoder, row):
    """An empty prefix: the answers are scored whole in all sequences."""
    encoder = make_encoder()
    for nothing in ("", None):
        record = encode_one(row(prefix=nothing, prefix_l=nothing), encoder)
        assert record["prefix"] == record["prefix_l"] == 0
        texts = rows_of(build_tree(record, arguments()), encoder)
        assert texts["sc_w.lw"][1] == texts["dpo.l"][1] == "It has no sides. So it is a circle.<|eot_id|>"


@pytest.mark.parametrize("family", FAMILIES)
def test_full_and_suffix_files_give_the_same_ids(make_encoder, project_root, family):
    from llamafactory_mmself.data.read import read_rows

    encoder, folder = make_encoder(family, correction=None), project_root / "data"
    schemas = read_dataset_info(folder, ["mmself_sherlock_full", "mmself_sherlock_suffix"])
    encoded = []
    for schema in schemas.values():
        rows, _ = read_rows(schema, folder, folder)
        assert len(rows) == 24
        encoded.append([encode_one(row, encoder) | {"origin": ""} for row in rows])
    assert encoded[0] == encoded[1]
    assert any(record["prefix"] for record in encoded[0])


@pytest.mark.parametrize("end", ["", " ", " So i"])
def test_a_prefix_may_end_anywhere(make_encoder, row, end):
    """Cuts inside a token: every sequence still says exactly its text, and equal prefixes have equal ids."""
    encoder = make_encoder()
    shared = f"It has four sides.{end}"
    sample = row(prefix=shared, prefix_l=shared, rejected=("It has four sides. So it was wrong.",))
    record = encode_one(sample, encoder)
    assert record["prefix"] == record["prefix_l"]
    assert record["chosen"][: record["prefix"]] == record["rejected"][: record["prefix_l"]]
    texts = rows_of(build_tree(record, arguments()), encoder)
    assert texts["dpo.w"][1] == sample.chosen + "<|eot_id|>"
    assert texts["sc_l.lw"][0].endswith(MLLAMA_ASSISTANT + shared)
    assert texts["sc_l.lw"][1] == sample.rejected[0].removeprefix(shared) + "<|eot_id|>"


def test_empty_thoughts_of_reasoning_templates_stand_before_the_prefix(make_encoder, row):
    encoder = make_encoder("qwen3_vl")
    assert encoder.response(row(), "Yes.") != encoder.tokenizer.encode("Yes.<|im_end|>\n")
    texts = rows_of(build_tree(encode_one(row(prefix="It has ", prefix_l="It has no"), encoder), arguments()), encoder)
    thought = encoder.template.add_thought()
    assert texts["dpo.w"][1] == f"{thought}It has four sides. So it is a square.<|im_end|>\n"
    assert texts["sc_l.wl"][0].endswith(f"<|im_start|>assistant\n{thought}It has no")
    assert texts["sc_l.wl"][1] == "four sides. So it is a square.<|im_end|>\n"


def test_cuts_that_change_the_text_are_faults(row):
    """Tokenizers that put a blank before every text cannot tokenise a suffix that starts inside a word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    _autoload.activate()
    from llamafactory.data.template import TEMPLATES

    letters = sorted(set("It has four sides. So it is a square, no circle." + "USER: ASSISTANT FIX[What?|]ihte</s>"))
    vocabulary = {letter: place for place, letter in enumerate(["▁", "</s>", *letters, "▁f"])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "f")]))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    bpe.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>")
    encoder = SherlockEncoder(TEMPLATES["alpaca"], tokenizer, None, 2048, frozenset(), SHORT)
    plain = {"images": (), "prompt": (Turn("user", "What is it?"),)}

    record = encode_one(row(**plain, prefix="It has", prefix_l="It has"), encoder)
    assert tokenizer.decode(record["chosen"][: record["prefix"]]) == "It has"
    records, (fault,) = encode_sherlock(row(**plain, prefix="It has ", prefix_l="It has"), encoder)
    assert not records
    assert (fault.field, fault.code) == ("prefix", "prefix-cut")


def test_dpo_rows_keep_what_fits_behind_the_question(make_encoder, row):
    """Correction prompts are longer than the question, so their rows are cut first, and only in suffixes."""
    encoder = make_encoder()
    whole = encode_one(row(), encoder)
    longest = max(len(whole["correction_l"]), len(whole["correction_w"])) + max(whole["prefix"], whole["prefix_l"])
    record = encode_one(row(), dataclasses.replace(encoder, cutoff_len=longest + 5))
    assert record["suffix"] == record["suffix_l"] == 5
    assert {**record, "suffix": whole["suffix"], "suffix_l": whole["suffix_l"]} == whole
    tree = build_tree(record, arguments())
    assert [sum(tree.roles[name].scored) for name in SC_ROLES] == [5] * 8
    texts = rows_of(tree, encoder)
    assert texts["dpo.w"][1].endswith("<|eot_id|>") and not texts["sc_l.ww"][1].endswith("<|eot_id|>")


def test_a_rejected_answer_may_be_longer_than_the_chosen_one(make_encoder, row):
    encoder = make_encoder()
    long = "It has no sides. " + "So it is a circle, or it is something else. " * 20 + "The end."
    texts = rows_of(build_tree(encode_one(row(rejected=(long,)), encoder), arguments()), encoder)
    assert texts["dpo.l"][1] == long + "<|eot_id|>"
    assert texts["sc_w.ll"][1].endswith("The end.<|eot_id|>")


def test_rows_that_leave_nothing_to_score_are_faults(make_encoder, row):
    encoder = make_encoder()
    whole = encode_one(row(), encoder)
    longest = max(len(whole["correction_l"]), len(whole["correction_w"])) + max(whole["prefix"], whole["prefix_l"])
    question = len(whole["prompt"]) + max(whole["prefix"], whole["prefix_l"])
    for cutoff_len, code in ((longest, "correction-too-long"), (question, "media-cut"), (5, "media-cut")):
        records, (fault,) = encode_sherlock(row(), dataclasses.replace(encoder, cutoff_len=cutoff_len))
        assert not records
        assert (fault.code, fault.row) == (code, 3)
        assert f"above {longest}" in fault.fix


def test_answers_that_cutting_makes_equal_are_faults(make_encoder, row):
    encoder = make_encoder()
    sample = row(
        chosen="It is one of these: a square.", rejected=("It is one of these: a circle.",), prefix="It", prefix_l="It"
    )
    whole = encode_one(sample, encoder)
    cutoff_len = max(len(whole["correction_l"]), len(whole["correction_w"])) + whole["prefix"] + 3
    records, (fault,) = encode_sherlock(sample, dataclasses.replace(encoder, cutoff_len=cutoff_len))
    assert not records
    assert (fault.field, fault.code) == ("rejected", "equal-after-cut")


def test_equal_suffixes_are_worth_a_warning(make_encoder, row):
    sample = row(rejected=("It has no sides. So it is a square.",))
    records, (fault,) = encode_sherlock(sample, make_encoder())
    assert len(records) == 1
    assert (fault.code, fault.level) == ("same-suffix", "warning")


def test_pictures_that_are_too_large_and_rows_that_do_not_fit_the_template_are_faults(make_encoder, row, monkeypatch):
    _, (fault,) = encode_sherlock(row(images=()), make_encoder("llava"))
    assert fault.code == "not-encodable" and "template" in fault.fix
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    _, (fault,) = encode_sherlock(row(), make_encoder("llava"))
    assert fault.code == "media-unreadable" and "decompression bomb" in fault.message


def test_the_published_total_can_be_asked_for():
    """Its trainer logs a total without the second correction term; the loss is the same."""
    sums = dict(zip(ROLES, -torch.arange(10.0).unsqueeze(1), strict=True))
    table = {role: SimpleNamespace(sums=values, lengths=torch.ones(1)) for role, values in sums.items()}
    reference = {role: SimpleNamespace(sums=torch.zeros(1), lengths=torch.ones(1)) for role in ROLES}
    finetuning = SimpleNamespace(pref_beta=0.1, pref_ftx=0.0)
    outputs = []
    for quirks in ("fixed", "published"):
        args = SherlockArguments(refine_beta=0.25, weigh_dpo=False, quirks=quirks)
        run = SimpleNamespace(stage=args, finetuning=finetuning)
        outputs.append(STAGE.loss(table, reference, {"weight": torch.ones(1)}, run))
    fixed, published = outputs
    second = 0.8 * fixed.metrics["losses/sc_w"][0]
    assert fixed.loss == published.loss
    assert published.metrics["losses/total"][0] == pytest.approx((fixed.metrics["losses/total"][0] - second).item())


def test_more_rejected_answers_make_more_samples(make_encoder, row):
    encoder = make_encoder()
    two = ("It has no sides. So it is a circle.", "It has no sides. Nothing else is known.")
    records, faults = encode_sherlock(row(rejected=two), encoder)
    assert not faults and len(records) == 2
    assert records[0]["correction_w"] == records[1]["correction_w"]
    assert records[0]["correction_l"] != records[1]["correction_l"]

    records, (fault,) = encode_sherlock(row(rejected=(two[0], "A circle.")), encoder)
    assert not records
    assert fault.code == "prefix-mismatch"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"prompt": (Turn("user", "<image>Hi."), Turn("function", "[]"), Turn("observation", "4"))}, "not-a-question"),
        ({"chosen": "It has four sides. <|image|>"}, "media-in-answer"),
        ({"images": ("missing.png",)}, "media-unreadable"),
    ],
)
def test_rows_that_cannot_be_encoded_are_faults(make_encoder, row, changes, code):
    encoder = make_encoder("qwen2_vl" if code == "media-unreadable" else "mllama")
    records, faults = encode_sherlock(row(**changes), encoder)
    assert not records
    assert {fault.code for fault in faults} == {code}


def test_pictures_anywhere_in_the_conversation(make_encoder, row, picture):
    """The last question is corrected; earlier turns stay. Its pictures come first in the correction prompt."""
    encoder = make_encoder()
    turns = (
        Turn("user", "<image>What is it?"),
        Turn("assistant", "A dog."),
        Turn("user", "And <image> this, {response}?"),
    )
    tree = build_tree(encode_one(row(prompt=turns, images=(picture, picture)), encoder), arguments())
    texts = rows_of(tree, encoder)
    for name in ROLES:
        assert texts[name][0].startswith(MLLAMA_USER.format("What is it?") + MLLAMA_ASSISTANT + "A dog.<|eot_id|>")
        assert sum(len(node.media) for node in tree.path(tree.roles[name].leaf)) == 2
    assert "\n\nAnd <|image|> this, {response}?<|eot_id|>" in texts["dpo.w"][0]
    assert "\n\n<|image|>FIX[And  this, {response}?|It has four sides. So it is a square.]" in texts["sc_w.ww"][0]


def test_text_without_pictures(make_encoder, row):
    encoder = make_encoder()
    sample = row(prompt=(Turn("user", "What is it?"),), images=())
    tree = build_tree(encode_one(sample, encoder), arguments())
    assert not any(node.media for node in tree.nodes)
    assert "FIX[What is it?|" in rows_of(tree, encoder)["sc_l.ww"][0]


def test_weights_travel_with_the_tree(make_encoder, row):
    encoder = make_encoder()
    record = encode_one(row(), encoder)
    assert build_tree(record, arguments()).side["weight"].item() == 0.75
    assert build_tree(record, arguments(static_weight=1.0)).side["weight"].item() == 1
    assert encode_one(row(weight=None), encoder)["weight"] == 1


def test_weights_keep_their_precision_under_deepspeed():
    """DeepSpeed's data type is for the model's inputs, not for the weights of rows."""
    import torch

    from llamafactory_mmself.stages.trainer import TreeTrainer

    trainer = object.__new__(TreeTrainer)
    trainer.args = SimpleNamespace(device=torch.device("cpu"))
    trainer.is_deepspeed_enabled = True
    config = SimpleNamespace(hf_ds_config=SimpleNamespace(dtype=lambda: torch.bfloat16))
    trainer.accelerator = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=config))
    weight = torch.tensor([0.745453])
    batch = trainer._prepare_inputs({"valid": torch.tensor([True]), "pixels": weight, "side": {"weight": weight}})
    assert list(batch) == ["valid", "pixels", "side"]
    assert batch["pixels"].dtype == torch.bfloat16
    assert torch.equal(batch["side"]["weight"], weight)


def test_ablations_build_only_what_they_score(make_encoder, row):
    record = encode_one(row(), make_encoder())
    assert tuple(build_tree(record, arguments(sc_coef=0.0)).roles) == DPO_ROLES
    assert tuple(build_tree(record, arguments(dpo_coef=0.0)).roles) == SC_ROLES
