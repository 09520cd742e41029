# SPDX-License-Identifier: Apache-2.0
"""Data sets in all the ways LLaMA-Factory lets users give them."""

import json
import logging
import shutil

import pytest

from llamafactory_mmself.data.faults import DataError


pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def data(project_root, tmp_path):
    """A writable copy of the shipped data."""
    folder = tmp_path / "data"
    shutil.copytree(project_root / "data", folder)
    return folder


@pytest.mark.parametrize("name", ["mmself_pairs", "mmself_pairs_columns", "dummy", "ovip_eval"])
def test_shipped_two_image_sets_train(settings, train, name):
    assert len(train(settings("llava", dataset=name)).losses) == 2


@pytest.mark.parametrize("name", ["mmself_text_pairs", "mmself_sherlock_full", "mmself_sherlock_suffix"])
def test_shipped_one_image_sets_train_with_dpo(settings, train, name):
    assert len(train(settings("llava", dataset=name, strategy="dpo")).losses) == 2


def test_streaming_is_the_same_run_tokenised_row_by_row(settings, train, tmp_path):
    """Splits, evaluation and resuming past an epoch included."""
    common = {"dataset": "ovip_eval", "max_samples": None, "val_size": 4, "eval_strategy": "steps", "eval_steps": 3}
    common |= {"max_steps": 9, "save_strategy": "steps", "save_steps": 5, "per_device_eval_batch_size": 3}
    ahead = train(settings("llava", **common))
    lazy = train(settings("llava", **common, streaming=True, output_dir=str(tmp_path / "lazy")))
    assert lazy.losses == ahead.losses and lazy.logged("eval_loss") == ahead.logged("eval_loss")
    shutil.rmtree(tmp_path / "lazy" / "checkpoint-9")
    again = settings("llava", **common, streaming=True, output_dir=str(tmp_path / "lazy"))
    again["resume_from_checkpoint"] = str(tmp_path / "lazy" / "checkpoint-5")
    assert train(again).losses == ahead.losses


def test_streaming_drops_rows_that_do_not_fit(settings, train, data):
    rows = json.loads((data / "ovip_eval.json").read_text())
    rows[1]["conversations"][0]["value"] += " really" * 400
    (data / "ovip_eval.json").write_text(json.dumps(rows))
    arguments = settings("llava", dataset="ovip_eval", dataset_dir=str(data), streaming=True, max_samples=None)
    arguments |= {"cutoff_len": 300, "max_steps": 6}
    with pytest.raises(DataError, match="no room for an answer"):
        train(arguments)
    assert len(train({**arguments, "invalid_rows": "drop"}).losses) == 6


def test_listed_rejected_answers_become_pairs(settings, train, data):
    rows = [json.loads(line) for line in (data / "mmself_pairs_columns.jsonl").read_text().splitlines()]
    pairs = sum(len(row["rejected"]) for row in rows)
    result = train(
        settings(
            "llava",
            dataset="mmself_pairs_columns",
            max_samples=None,
            max_steps=None,
            num_train_epochs=1.0,
            per_device_train_batch_size=pairs,
        )
    )
    assert len(result.losses) == 1


def test_mixing_and_separate_evaluation_sets(settings, train):
    result = train(
        settings(
            "llava",
            dataset="mmself_pairs,mmself_pairs_columns",
            mix_strategy="interleave_over",
            interleave_probs="0.5,0.5",
            eval_dataset="ovip_eval,mmself_pairs",
            eval_on_each_dataset=True,
            eval_strategy="epoch",
            max_steps=2,
        )
    )
    assert result.logged("eval_ovip_eval_loss") and result.logged("eval_mmself_pairs_loss")


def test_rows_of_one_id_stay_on_one_side(project_root):
    from datasets import Dataset

    from llamafactory_mmself.stages.dataset import split_by_key

    keys = [f"id{place % 10}" for place in range(60)]
    dataset = Dataset.from_dict({"key": keys, "row": list(range(60))})
    train, held_out = split_by_key(dataset, 0.2, seed=3)
    assert len(train) + len(held_out) == 60 and len(held_out) == 12
    assert not set(train["key"]) & set(held_out["key"])
    again = split_by_key(dataset, 12, seed=3)[1]
    assert again["row"] == held_out["row"]
    with pytest.raises(DataError, match="cannot be split"):
        split_by_key(Dataset.from_dict({"key": ["one"] * 4}), 0.5, seed=0)


def test_tokenised_sets_on_disk_know_how_they_were_made(settings, train, tmp_path):
    folder = str(tmp_path / "tokenised")
    first = train(settings("llava", tokenized_path=folder))
    second = train(settings("llava", tokenized_path=folder, strategy="mdpo"))  # any strategy
    assert len(first.losses) == len(second.losses) == 2
    with pytest.raises(DataError, match=r"other settings \(cutoff_len: 2048 there, 999 in this run"):
        train(settings("llava", tokenized_path=folder, cutoff_len=999))
    shutil.rmtree(folder)
    train(settings("llava", tokenized_path=folder, dataset="mmself_text_pairs", strategy="dpo"))
    with pytest.raises(DataError, match="its rows were not checked for images, rejected_images"):
        train(settings("llava", tokenized_path=folder))
    shutil.rmtree(folder)
    (tmp_path / "tokenised").mkdir()
    (tmp_path / "tokenised" / "other.txt").write_text("not ours")
    with pytest.raises(DataError, match=r"mmself_fingerprint\.json is missing"):
        train(settings("llava", tokenized_path=folder))


def test_a_cached_encoding_is_not_used_when_a_picture_changed(settings, train, data):
    from PIL import Image

    arguments = settings(dataset_dir=str(data))
    train(arguments)
    for picture in (data / "images").iterdir():
        with Image.open(picture) as image:
            image.resize((56, 84)).save(picture)
    assert len(train(arguments).losses) == 2  # stale encodings would have the wrong number of picture tokens


def test_tokenised_sets_on_disk_know_their_pictures(settings, train, data, tmp_path):
    from PIL import Image

    arguments = settings(dataset_dir=str(data), tokenized_path=str(tmp_path / "tokenised"))
    train(arguments)
    for picture in (data / "images").iterdir():
        with Image.open(picture) as image:
            image.resize((56, 84)).save(picture)
    with pytest.raises(DataError, match=r"pictures: .* there"):
        train(arguments)


def test_encodings_know_the_processor(settings, train, tiny_models, tmp_path):
    """Settings outside the image processor that change the number of picture tokens."""
    train(settings("llava"))
    other = tmp_path / "other"
    shutil.copytree(tiny_models("llava"), other)
    for name in ("processor_config.json", "config.json"):
        values = json.loads((other / name).read_text())
        values["vision_feature_select_strategy"] = "full"
        (other / name).write_text(json.dumps(values))
    assert len(train(settings("llava", model_name_or_path=str(other))).losses) == 2


def test_encodings_know_how_special_tokens_are_read(settings, train, tmp_path):
    folder = str(tmp_path / "tokenised")
    train(settings("llava", tokenized_path=folder))
    with pytest.raises(DataError, match="split_special_tokens: False there, True in this run"):
        train(settings("llava", tokenized_path=folder, split_special_tokens=True))


def test_our_own_format_in_our_own_stage(settings, train, data):
    info = json.loads((data / "dataset_info.json").read_text())
    info["ours"] = {**info["mmself_pairs"], "formatting": "mmself"}
    (data / "dataset_info.json").write_text(json.dumps(info))
    assert len(train(settings("llava", dataset="ours", dataset_dir=str(data))).losses) == 2


def test_sft_uses_each_chosen_answer_once(settings, train):
    pairs = settings("llava", dataset="mmself_pairs_columns", max_samples=4, max_steps=None, num_train_epochs=1.0)
    assert len(train({**pairs, "strategy": "sft", "per_device_train_batch_size": 1}).losses) == 4


def test_bad_rows_stop_the_run_or_are_dropped_and_counted(settings, train, data, caplog):
    rows = json.loads((data / "mmself_pairs.json").read_text())
    rows[0]["images"][0] = "images/gone.png"
    rows[1]["chosen"] = rows[1]["rejected"]
    (data / rows[2]["images"][1]).write_text("not a picture")
    rows[3]["images"][0] = rows[2]["images"][1]
    (data / "mmself_pairs.json").write_text(json.dumps(rows))
    arguments = settings("llava", dataset_dir=str(data), max_samples=None)
    with pytest.raises(DataError) as raised:
        train(arguments)
    assert "mmself_pairs.json, row 2" in str(raised.value) and "invalid_rows: drop" in str(raised.value)
    with caplog.at_level(logging.WARNING):
        assert len(train({**arguments, "invalid_rows": "drop"}).losses) == 2


def test_prompts_that_do_not_fit_are_faults_not_cut(settings, train):
    with pytest.raises(DataError, match="cutoff_len is 30: no room for an answer"):
        train(settings("llava", cutoff_len=30))


def test_strategies_say_which_rows_they_need(settings, train):
    with pytest.raises(DataError, match="rejected_images"):
        train(settings("llava", dataset="mmself_text_pairs", strategy="orm"))


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_videos_and_pictures_in_one_batch(settings, train, tmp_path, family):
    import av
    import numpy
    from PIL import Image

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 56
        stream.pix_fmt = "yuv420p"
        for shade in range(8):
            frame = av.VideoFrame.from_ndarray(numpy.full((56, 56, 3), 30 * shade, dtype=numpy.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    Image.new("RGB", (112, 84), "red").save(tmp_path / "picture.png")
    answers = {"chosen": {"from": "gpt", "value": "It gets brighter."}, "rejected": {"from": "gpt", "value": "No."}}
    rows = [
        {"conversations": [{"from": "human", "value": "<video>What happens?"}], "videos": ["clip.mp4"], **answers},
        {"conversations": [{"from": "human", "value": "<image>What is it?"}], "images": ["picture.png"], **answers},
        {"conversations": [{"from": "human", "value": "Hello."}], **answers},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    columns = {name: name for name in ("images", "videos", "chosen", "rejected")} | {"messages": "conversations"}
    entry = {"file_name": "rows.json", "formatting": "sharegpt", "ranking": True, "columns": columns}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mixed": entry}))
    arguments = settings(family, strategy="dpo", dataset="mixed", dataset_dir=str(tmp_path), max_samples=None)
    whole = train({**arguments, "per_device_train_batch_size": 3})
    parts = train({**arguments, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3})
    assert whole.losses[1] < whole.losses[0]
    assert whole.losses == pytest.approx(parts.losses, abs=1e-4)


def test_rows_without_a_picture_need_a_strategy_without_pictures(settings, train, data):
    rows = json.loads((data / "mmself_text_pairs.json").read_text())[:4]
    for row in rows:
        row.pop("images")
        row["conversations"][0]["value"] = row["conversations"][0]["value"].replace("<image>", "")
    (data / "mmself_text_pairs.json").write_text(json.dumps(rows))
    arguments = settings("llava", dataset="mmself_text_pairs", dataset_dir=str(data))
    for strategy in ("ori-mdpo", "orm", "svco-textref"):
        with pytest.raises(DataError, match="has no `images`"):
            train({**arguments, "strategy": strategy})


def test_a_broken_rejected_picture_is_told_as_such(settings, train, data):
    rows = json.loads((data / "mmself_pairs.json").read_text())
    (data / rows[0]["images"][1]).write_text("not a picture")
    with pytest.raises(DataError, match=r"mmself_pairs\.json, row 1, field `rejected_images`"):
        train(settings("llava", dataset_dir=str(data)))


def test_a_set_without_ranking_is_explained(settings, train):
    with pytest.raises(DataError, match="chosen and rejected"):
        train(settings("llava", dataset="mmself_sft", strategy="dpo"))
