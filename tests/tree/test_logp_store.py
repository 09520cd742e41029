# SPDX-License-Identifier: Apache-2.0
"""Log-probs on disk: what was written is read, what was cut short is not, and several writers do not meet."""

import errno
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from llamafactory_mmself.files import FileError
from llamafactory_mmself.tree import logp_store
from llamafactory_mmself.tree.logp_store import LogpStore, sample_digest
from llamafactory_mmself.tree.reference import Cached, MissingLogpsError, SampleIds
from llamafactory_mmself.tree.sample import Crop, Media, Role, TreeBuilder


def logps(*values):
    return {"cc": torch.tensor(values), "cr": torch.tensor(values[:1])}


def test_several_writers_and_readers(tmp_path):
    one, other = LogpStore(tmp_path / "cache"), LogpStore(tmp_path / "cache")
    one.add({"a": logps(-1.5, -0.1)})
    other.add({"a": logps(-9.0), "b": logps(-2.0)})  # both found it missing: the first one is believed
    one.add({"c": logps(-3.0)})
    for store in (one, other):
        store.close()
        assert store.load() == 0
        assert len(store) == 3
        assert torch.equal(store.get("a")["cc"], torch.tensor([-1.5, -0.1]))
        assert torch.equal(store.get("c")["cr"], torch.tensor([-3.0]))
    one.add({"d": logps(-4.0)})
    one.close()
    other.load()
    assert "d" in other and "e" not in other
    assert other.size == sum(file.stat().st_size for file in (tmp_path / "cache").iterdir())


def test_a_full_disk_says_so_and_closing_adds_nothing_to_it(tmp_path, monkeypatch):
    store = LogpStore(tmp_path)
    full = partial(open, "/dev/full", "wb")
    monkeypatch.setattr(logp_store, "open", lambda path, mode: full(), raising=False)
    with pytest.raises(FileError, match=r"No space left on device.*Make room"):
        store.add({"a": logps(-1.0)})
    store.close()
    monkeypatch.undo()

    store.add({"a": logps(-1.0)})
    monkeypatch.setattr(logp_store.os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(FileError, match=r"No space left on device.*Make room"):
        store.close()
    store.close()


@pytest.mark.parametrize("kept", [1, 20, 40, -1])
def test_a_line_that_was_cut_short_is_passed_over(tmp_path, kept):
    store = LogpStore(tmp_path)
    for name in "ab":
        store.add({name: logps(-1.0, -2.0)})
    store.close()
    (shard,) = tmp_path.iterdir()
    first, last = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(first + last[:kept])
    again = LogpStore(tmp_path)
    assert again.load() == 1
    assert "a" in again and "b" not in again
    again.add({"b": logps(-5.0)})
    again.close()
    again.load()
    assert torch.equal(again.get("b")["cr"], torch.tensor([-5.0]))


def test_a_damaged_line_does_not_hide_those_behind_it(tmp_path):
    store = LogpStore(tmp_path)
    store.add({name: logps(-1.0, -2.0) for name in "abc"})
    store.close()
    (shard,) = tmp_path.iterdir()
    first, middle, last = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(first + middle.replace(b"cc", b"rc") + last)
    again = LogpStore(tmp_path)
    assert again.load() == 1
    assert [name in again for name in "abc"] == [True, False, True]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def sample(picture, ids=(1, 2, 3), answer=(4, 5), mask=None, view=None, key="row"):
    builder = TreeBuilder(key)
    root = builder.add(ids, media=[Media("image", str(picture), view)])
    builder.score("cc", answer, root, mask)
    return builder.build()


def test_a_sample_is_known_by_all_that_changes_its_log_probs(picture, tmp_path):
    same = sample(picture)
    copied = tmp_path / "copy.png"
    copied.write_bytes(picture.read_bytes())
    digests = [
        sample_digest(tree)
        for tree in (
            same,
            sample(picture, ids=(1, 2, 9)),
            sample(picture, answer=(4, 6)),
            sample(picture, mask=(True, False)),
            sample(picture, view=Crop((0.1, 0.2), 1)),
            sample(picture, view=Crop((0.1, 0.2), 2)),
            replace(same, roles={"cr": same.roles["cc"]}),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert sample_digest(sample(copied, key="another row")) == digests[0]

    split = replace(same, nodes=same.nodes, roles={"cc": Role(same.roles["cc"].leaf, same.roles["cc"].scored)})
    assert sample_digest(split) == digests[0]
    Image.new("RGB", (8, 8), "blue").save(picture)
    assert sample_digest(same) != digests[0]
    picture.unlink()
    with pytest.raises(ValueError, match=r"picture\.png cannot be read"):
        sample_digest(same)


def test_cached_log_probs_are_padded_like_a_batch_and_gaps_are_refused(tmp_path):
    store = LogpStore(tmp_path)
    store.add({"a": logps(-1.0, -2.0), "b": {"cc": torch.tensor([-3.0])}})
    store.close()
    store.load()
    batch = {"valid": torch.tensor([True, True]), "samples": SampleIds(("a", "b"), ("row 1", "row 2"))}
    table = Cached(store)(torch.nn.Identity(), batch)
    assert torch.equal(table["cc"].logp, torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]))
    assert torch.equal(table["cc"].mask, torch.tensor([[True, True], [True, False]]))
    assert torch.equal(table["cr"].lengths, torch.tensor([1, 0]))
    batch["samples"] = SampleIds(("a", "z"), ("row 1", "row 3"))
    with pytest.raises(MissingLogpsError, match="sample row 3 are not in"):
        Cached(store)(torch.nn.Identity(), batch)
