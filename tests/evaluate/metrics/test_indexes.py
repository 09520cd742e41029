# SPDX-License-Identifier: Apache-2.0
"""Numbers over several benchmarks."""

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError
from llamafactory_mmself.evaluate.metrics.indexes import (
    GENERAL,
    HRI,
    SHERLOCK,
    general_difference,
    hri,
    sherlock_average,
)


def test_hri_by_hand():
    base = dict.fromkeys(HRI, 10.0)
    reference = dict(zip(HRI, (20.0, 12.0, 30.0, 11.0, 15.0), strict=True))
    scores = dict(zip(HRI, (15.0, 12.0, 5.0, 10.0, 20.0), strict=True))
    assert hri(scores, base, reference) == pytest.approx(2 * (0.5 + 1 - 0.25 + 0 + 2))


def test_hri_refuses_what_it_cannot_divide_by():
    base = dict.fromkeys(HRI, 10.0)
    with pytest.raises(MetricError, match="reference and base are both 10 on amber_generative"):
        hri(base, base, base)
    with pytest.raises(
        MetricError, match=r"HRI's base needs .*; mmhal, object_hal, llava_bench, amber_discriminative is"
    ):
        hri(base, {"amber_generative": 1}, base)


def test_the_general_difference_is_a_mean_or_a_sum():
    base, scores = dict.fromkeys(GENERAL, 50.0), dict(zip(GENERAL, (51.0, 53.0, 50.0, 48.0), strict=True))
    assert general_difference(scores, base) == 0.5 and general_difference(scores, base, how="sum") == 2
    with pytest.raises(MetricError, match="mmstar is missing"):
        general_difference(dict.fromkeys(GENERAL[:3], 1), base)


def test_sherlocks_average_is_the_papers():
    # The row "Sherlock Iter2" of the paper's table 2, whose average is 64.1.
    row = dict(zip(SHERLOCK, (74.6, 62.4, 48.7, 49.7, 57.7, 89.6, 52.0, 2197), strict=True))
    assert sherlock_average(row) == pytest.approx(64.15, abs=0.005)
    with pytest.raises(MetricError, match="mme is missing"):
        sherlock_average({name: 1 for name in SHERLOCK if name != "mme"})
