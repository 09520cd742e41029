# SPDX-License-Identifier: Apache-2.0
"""Seeds made from others."""

from llamafactory_mmself.generate.seeds import derived_seed


def test_seeds_are_the_same_everywhere_and_fit_every_generator() -> None:
    assert derived_seed(0, 1, "samples_train") == 802798708
    seeds = {derived_seed(seed, name) for seed in range(100) for name in ("train", "test", 1)}
    assert len(seeds) == 300 and all(0 <= seed < 2**31 for seed in seeds)


def test_names_do_not_run_into_each_other() -> None:
    assert len({derived_seed(0, "a", "b"), derived_seed(0, "ab"), derived_seed(0, "a/b"), derived_seed(0, "a b")}) == 4
