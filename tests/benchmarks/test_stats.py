# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from benchmarks.harness import stats


def test_percentiles_are_numpys() -> None:
    values = list(np.random.default_rng(0).standard_normal(37))
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert stats.percentile(values, share) == pytest.approx(np.percentile(values, 100 * share))
    assert stats.percentile([3.0], 0.8) == 3.0


@pytest.mark.parametrize("values, share", [([], 0.5), ([1.0], 1.5)])
def test_percentile_refuses(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        stats.percentile(values, share)


def test_summary_pools_the_rounds() -> None:
    found = stats.summary([[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]])
    assert found == stats.Summary(3.5, 2.0, 5.0, 6)


def test_ratio_pairs_the_rounds() -> None:
    """The machine is twice as slow in the second round: the medians' ratio and each round's are 3 all the same."""
    ours, other = {"median": 1.5, "rounds": [1.0, 2.0]}, {"median": 4.5, "rounds": [3.0, 6.0]}
    assert stats.ratio(other, ours) == stats.Ratio(3.0, 3.0, 3.0)
    uneven = {"median": 4.5, "rounds": [4.0, 6.0]}
    assert stats.ratio(uneven, ours) == pytest.approx((3.0, 3.2, 3.8))


def test_geometric_mean() -> None:
    assert stats.geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)
    for values in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="geometric_mean"):
            stats.geometric_mean(values)
