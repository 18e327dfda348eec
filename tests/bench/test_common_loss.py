"""Made-up validation curves: what two runs are timed to, and what is said of their models."""

from __future__ import annotations

import pytest

from bench.common_loss import Best, best_of, common_loss, time_to

Line = dict[str, float]


def curve(seconds: float, *losses: float) -> list[Line]:
    """An epoch every so many seconds."""
    return [{"epoch": n, "val_loss": loss, "ended_s": n * seconds} for n, loss in enumerate(losses, 1)]


def test_the_best_epoch_is_the_first_of_the_lowest() -> None:
    assert best_of(curve(2, 0.9, 0.4, 0.6, 0.4)) == Best(loss=0.4, epoch=2, ended_s=4)


def test_a_loss_is_reached_by_the_first_epoch_at_or_below_it() -> None:
    falling = curve(2, 0.9, 0.3, 0.6, 0.2)
    assert time_to(falling, 0.5) == 4  # that it goes up again afterwards changes nothing
    assert time_to(falling, 0.2) == 8
    with pytest.raises(ValueError, match="no epoch"):
        time_to(falling, 0.1)


def test_each_pair_is_timed_to_the_worse_of_its_best_losses() -> None:
    ours = [curve(1, 0.9, 0.5, 0.7), curve(1, 0.8, 0.6, 0.3)]
    theirs = [curve(4, 0.8, 0.45, 0.2), curve(4, 0.7, 0.5, 0.4)]
    found = common_loss(ours, theirs)
    assert found.losses == (0.5, 0.4)  # once ours is the worse, once theirs
    assert found.ours_s.values == (2, 3)
    assert found.theirs_s.values == (8, 12)  # not 12: the plain loop was that good an epoch before its best
    assert found.sooner.values == (4, 4)
    assert found.apart.values == pytest.approx((0.3, -0.1))
    assert (found.ours, found.theirs) == (0.4, pytest.approx(0.3))


def test_a_side_that_wins_by_a_worse_model_is_told_of() -> None:
    good, bad = [0.2, 0.21, 0.19], [0.5, 0.52, 0.48]
    quick = [curve(1, 0.9, loss) for loss in bad]
    slow = [curve(4, 0.9, 0.45, loss) for loss in good]
    told = common_loss(quick, slow).sentence
    assert "(0.5) is reached 4.00 times sooner" in told
    assert "our best, the worse of both: the plain loop goes on to 0.2" in told
    told = common_loss([curve(1, 0.9, 0.45, loss) for loss in good], [curve(4, 0.9, loss) for loss in bad]).sentence
    assert "the plain loop's best, the worse of both: ours goes on to 0.2" in told


def test_losses_within_noise_and_single_pairs_are_told_as_such() -> None:
    mixed = common_loss([curve(1, 0.4), curve(1, 0.5)], [curve(3, 0.5), curve(3, 0.4)])
    assert "not apart beyond noise" in mixed.sentence
    assert "of one repeat" in common_loss([curve(1, 0.4)], [curve(3, 0.5)]).sentence
