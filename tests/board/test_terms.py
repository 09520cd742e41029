# SPDX-License-Identifier: Apache-2.0
"""The log of a loss's terms, and its plot."""

import math

from llamafactory_mmself.board import terms
from llamafactory_mmself.board.terms import append_terms, panels, read_log, terms_figure


def test_chosen_finite_numbers_are_logged(tmp_path):
    logged = {"loss": 1.0, "loss/dpo": 0.5, "loss/cdpo": math.nan, "loss/name": "x", "epoch": 1}
    append_terms(tmp_path, 3, logged, lambda name: name.startswith("loss/"))
    append_terms(tmp_path, 4, {"epoch": 2}, lambda name: False)
    assert read_log(tmp_path / terms.TERMS_LOG) == [{"current_steps": 3, "loss/dpo": 0.5}]


def test_damaged_and_long_logs(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n[2]\nnot json\n{"a": 2}\n{"a"')
    assert read_log(path) == [{"a": 1}, {"a": 2}]
    assert read_log(tmp_path / "gone.jsonl") == []
    monkeypatch.setattr(terms, "MOST_BYTES", 14)
    assert read_log(path) == [{"a": 2}]


def test_terms_share_a_panel_and_others_have_their_own():
    names = [
        "loss/text_dpo",
        "loss/cdpo",
        "rewards/margins",
        "rewards/accuracies",
        "loss_cot",
        "margins/u",
        "margins/v",
    ]
    assert panels(names) == {
        "terms of the loss": ["loss/text_dpo", "loss/cdpo", "loss_cot"],
        "rewards/margins": ["rewards/margins"],
        "rewards/accuracies": ["rewards/accuracies"],
        "margins": ["margins/u", "margins/v"],
    }


def test_the_plot_has_a_line_for_each_term():
    entries = [{"current_steps": step, "loss/dpo": 1 / step, "rewards/margins": step} for step in (1, 2, 3)]
    losses = [{"current_steps": step, "loss": 1 / step} for step in (1, 2, 3)] + [{"current_steps": 3}]
    figure = terms_figure(losses, entries, lambda values: values)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["", "terms of the loss", "rewards/margins"]
    assert [line.get_label() for line in figure.axes[1].lines if not line.get_label().startswith("_")] == ["loss/dpo"]
    assert terms_figure([], [], lambda values: values).axes
