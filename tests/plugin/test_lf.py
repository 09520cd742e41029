# SPDX-License-Identifier: Apache-2.0
"""What the view of LLaMA-Factory adds to it."""

import pytest

from llamafactory_mmself.plugin import lf
from llamafactory_mmself.toyworld.models import TEMPLATES


@pytest.mark.parametrize(
    ("family", "setting", "value"), [("llava", "default_system", "Be brief."), ("qwen2_vl", "tool_format", "qwen")]
)
def test_a_runs_template_settings_end_with_the_run(family, setting, value, tiny_models):
    arguments = {"model_name_or_path": str(tiny_models(family)), "template": TEMPLATES[family]}
    before = lf.load_inference(arguments).template
    changed = lf.load_inference({**arguments, setting: value}).template
    after = lf.load_inference(arguments).template
    if setting == "default_system":
        assert changed.default_system == value
    assert vars(changed) != vars(before)
    assert vars(after) == vars(before)
