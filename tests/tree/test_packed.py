# SPDX-License-Identifier: Apache-2.0
"""The packed engine gives what the dense one gives: log-probs and gradients, for any tree."""

import copy
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from llamafactory_mmself.toyworld.models import FAMILIES
from llamafactory_mmself.tree.attention import tree_mask
from llamafactory_mmself.tree.media import open_image
from llamafactory_mmself.tree.packed import PACKABLE, PackedCollator, PackedScorer, PackedTree, unpackable_model
from llamafactory_mmself.tree.sample import ROOT, Media, Node, Role, SampleTree
from llamafactory_mmself.tree.unwrap import bare_model
from tests.tree.conftest import cast


PACKED_FAMILIES = [family for family in FAMILIES if family in PACKABLE]
PICTURES = ("blank:64x64", "blank:112x56", "blank:56x140")

#: Segments of a tree: (parent among the earlier ones, text before, picture or none, text after).
SEGMENT = st.tuples(
    st.integers(0, 100),
    st.lists(st.integers(5, 200), max_size=4),
    st.sampled_from([None, None, *range(len(PICTURES))]),
    st.lists(st.integers(5, 200), min_size=1, max_size=4),
)
FORESTS = st.lists(st.lists(SEGMENT, min_size=2, max_size=7), min_size=1, max_size=3)
#: Few trees, because each is scored and differentiated twice; none is shrunk.
FEW = settings(
    max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def tree_of(segments, picture_ids=None, key="drawn"):
    """A tree of drawn segments, a role for each node but the root, every other token scored."""
    nodes, depths = [], []
    for number, (parent, before, picture, after) in enumerate(segments):
        above = [place for place in range(number) if depths[place] < 4]
        parent = above[parent % len(above)] if number else ROOT
        media, ids = (), [*before, *after]
        if picture is not None and picture_ids is not None:
            media, ids = (Media("image", PICTURES[picture]),), [*before, *picture_ids(PICTURES[picture]), *after]
        nodes.append(Node(tuple(ids), parent, media))
        depths.append(1 if parent == ROOT else depths[parent] + 1)
    roles = {}
    tree = SampleTree(key, tuple(nodes), {})
    for leaf in range(1, len(nodes)):
        length = sum(len(node.ids) for node in tree.path(leaf))
        root = len(nodes[0].ids)
        answer = len(nodes[leaf].ids) - len(segments[leaf][3]) if nodes[leaf].media else 0
        scored = [place >= root and (length - place) <= len(nodes[leaf].ids) - answer for place in range(length)]
        roles[f"role{leaf}"] = Role(leaf, tuple(scored))
    return replace(tree, roles=roles)


def gradients(model, table):
    """Gradients of a sum that weighs every token differently."""
    model.zero_grad()
    total = sum(
        (scores.logp * torch.linspace(0.5, 1.5, scores.logp.numel()).view_as(scores.logp)).sum() * (place + 1)
        for place, scores in enumerate(table.values())
    )
    total.backward()
    found = {name: item.grad.clone() for name, item in model.named_parameters() if item.grad is not None}
    model.zero_grad()
    return found


def assert_equal(lab, trees, model=None, precision=1e-9):
    """Both layouts: the same masks, log-probs and gradients."""
    model = model or lab.model
    dense, found = (PackedScorer()(model, batch) for batch in (lab.batch(trees), lab.packed(trees)))
    assert dense.keys() == found.keys()
    for role, scores in dense.items():
        assert torch.equal(scores.mask, found[role].mask)
        assert torch.allclose(scores.logp, found[role].logp, rtol=0, atol=precision), role
    expected, other = gradients(model, dense), gradients(model, found)
    assert expected and expected.keys() == other.keys()
    for name, gradient in expected.items():
        near = 1e-5 if "vis" in name else precision  # the vision towers rotate their queries and keys in fp32
        assert (other[name] - gradient).norm() <= near * gradient.norm() + 1e-12, name


def in_double(model):
    """A copy whose norms compute in float64, too: theirs is fp32, and would round sums in another order."""
    model = copy.deepcopy(model)

    def forward(norm, states):
        return norm.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = partial(forward, module)
    return model


@pytest.fixture(params=PACKED_FAMILIES)
def packed_lab(request, make_lab):
    """Every family that runs packed."""
    lab = make_lab(request.param)
    return replace(lab, model=in_double(lab.model))


@pytest.fixture
def picture_ids(packed_lab):
    """Placeholder tokens of a picture in this family."""

    def make(source):
        picture = open_image(Media("image", source))
        plugin = packed_lab.template.mm_plugin
        message = {"role": "user", "content": "<image>"}
        (message,) = plugin.process_messages([message], [picture], [], [], packed_lab.processor)
        return packed_lab.tokenizer.encode(message["content"], add_special_tokens=False)

    return make


@given(FORESTS)
def test_every_token_lies_once_and_sees_its_path(segments):
    for drawn in segments:
        tree = tree_of(drawn)
        packed = PackedTree.of(tree)
        assert len(packed.row.ids) == sum(len(node.ids) for node in tree.nodes)
        sees = tree_mask(torch.tensor([packed.ends]))[0, 0]
        for leaf, places in packed.paths.items():
            ids = [token for node in tree.path(leaf) for token in node.ids]
            assert [packed.row.ids[place] for place in places] == ids
            for number, place in enumerate(places):
                assert sees[place].nonzero().flatten().tolist() == list(places[: number + 1])


def test_padding_sees_itself_alone(make_lab):
    lab = make_lab("llava")
    batch = PackedCollator(lab.collate)(lab.trees("orm"))
    sees = tree_mask(batch["subtree_ends"])[:, 0]
    assert sees.any(-1).all()
    filled = [len(PackedTree.of(tree).row.ids) for tree in lab.trees("orm")]
    assert min(filled) < batch["input_ids"].shape[1]
    for row, length in enumerate(filled):
        assert torch.equal(sees[row, length:, length:], torch.eye(sees.shape[-1] - length, dtype=torch.bool))
        assert not sees[row, length:, :length].any() and not sees[row, :length, length:].any()


@FEW
@given(FORESTS)
def test_drawn_trees(packed_lab, picture_ids, drawn):
    """Pictures anywhere in the tree, none or several on a path, ragged batches, any depth up to four."""
    assert_equal(packed_lab, [tree_of(item, picture_ids) for item in drawn])


@pytest.mark.parametrize(("strategy", "mode"), [("orm", "sameBatch"), ("svco-ref", "single"), ("dpo", "single")])
def test_trees_of_preference_rows(packed_lab, strategy, mode):
    assert_equal(packed_lab, packed_lab.trees(strategy, mode))


def test_rows_with_two_pictures(packed_lab):
    rows = [
        replace(
            row,
            prompt=(row.prompt[0]._replace(content="<image>\nand\n<image>\nWhat differs?"),),
            images=row.images + row.rejected_images,
            rejected_images=row.rejected_images + row.images,
        )
        for row in packed_lab.rows
    ]
    assert_equal(packed_lab, packed_lab.trees("orm", rows=rows))


def test_a_batch_without_pictures_still_runs_the_tower(packed_lab):
    """The filler stands beside the shortest tree, takes no row of its own and changes nothing."""
    rows = [
        replace(row, prompt=(row.prompt[0]._replace(content="Hello"),), images=(), rejected_images=())
        for row in packed_lab.rows
    ]
    trees = packed_lab.trees("dpo", rows=rows)
    batch = PackedCollator(packed_lab.collate)(trees)
    assert "pixel_values" in batch and len(batch["input_ids"]) == len(trees)
    assert_equal(packed_lab, trees)


@contextmanager
def checkpointing(model, reentrant):
    """Gradient checkpointing as LLaMA-Factory switches it on, with a frozen embedding below."""
    bare = bare_model(model)
    bare.gradient_checkpointing_enable({"use_reentrant": reentrant})
    bare.enable_input_require_grads()
    model.train()
    try:
        yield
    finally:
        bare.gradient_checkpointing_disable()
        bare.disable_input_require_grads()
        model.eval()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")  # a tower below frozen inputs
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_checkpointing_and_adapters(packed_lab, tuning, reentrant):
    model = in_double(packed_lab.model)
    if tuning == "lora":
        targets = r".*language_model.*(q_proj|v_proj|up_proj)"
        model = get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    with checkpointing(model, reentrant):
        assert_equal(packed_lab, packed_lab.trees("orm", "sameBatch"), model)


@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_single_precision(make_lab, family):
    lab = make_lab(family)
    model = copy.deepcopy(lab.model).float()
    trees = lab.trees("orm", "sameBatch")
    with torch.no_grad():
        dense = PackedScorer()(model, lab.collate(trees))
        found = PackedScorer()(model, PackedCollator(lab.collate)(trees))
    for role, scores in dense.items():
        assert torch.allclose(scores.logp, found[role].logp, rtol=0, atol=1e-5), role


@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_half_precision_is_as_exact_as_the_dense_engine(make_lab, family):
    """Apart from the dense engine in float64 by at most twice what the dense engine in bf16 is."""
    lab = make_lab(family)
    model = copy.deepcopy(lab.model).bfloat16()
    trees = lab.trees("orm", "sameBatch")
    batches = lab.batch(trees), lab.packed(trees)
    with torch.no_grad():
        exact = PackedScorer()(lab.model, batches[0])
        dense, found = (PackedScorer()(model, cast(batch, torch.bfloat16)) for batch in batches)

    def error(table):
        return max((scores.logp - exact[role].logp).abs().mean().item() for role, scores in table.items())

    assert error(found) <= 2 * error(dense)


def test_only_what_attends_causally_everywhere_runs_packed(make_lab):
    assert "type `mllama`" in unpackable_model(make_lab("mllama").model)
    for family in PACKED_FAMILIES:
        assert unpackable_model(make_lab(family).model) is None
    model = copy.deepcopy(make_lab("qwen2_vl").model)
    model.config.get_text_config().layer_types[0] = "sliding_attention"
    assert "sliding windows" in unpackable_model(model)
    model = copy.deepcopy(make_lab("llava").model)
    model.config.get_text_config().model_type = "gemma3_text"
    assert "gemma3_text" in unpackable_model(model)
