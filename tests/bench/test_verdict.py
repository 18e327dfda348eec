import pytest

from bench.stats import Summary, summarise
from bench.verdict import verdict


def _near(rate: float) -> Summary:
    return summarise([rate * factor for factor in (0.99, 0.995, 1.0, 1.005, 1.01)])


CEILINGS = {"read": _near(200_000), "decode": _near(9_000), "gather": _near(80_000), "step": _near(1_500)}


def _pace(share: float) -> Summary:
    return summarise([share * factor for factor in (0.99, 0.995, 1.0, 1.005, 1.01)])


@pytest.mark.parametrize(
    ("share", "name"),
    [(0.995, "COMPUTE_BOUND"), (0.9, "INPUT_LIMITED"), (0.6, "INPUT_BOUND"), (0.95, "UNDECIDED"), (0.8, "UNDECIDED")],
)
def test_the_share_of_waiting_decides(share: float, name: str) -> None:
    found = verdict(_pace(share), CEILINGS, resident=True, steps=20)
    assert found.name == name
    assert found.sentence.startswith(name)
    assert found.waiting[0] <= max(1 - share, 0) <= found.waiting[1]


def test_the_path_depends_on_where_the_set_lies() -> None:
    slow_decode = {**CEILINGS, "decode": _near(700)}
    assert verdict(_pace(0.47), slow_decode, resident=False, steps=20).binding == "decode"
    assert "more cores" in verdict(_pace(0.47), slow_decode, resident=False, steps=20).sentence
    assert verdict(_pace(0.99), slow_decode, resident=True, steps=20).binding == "step"


def test_a_step_that_waits_is_not_told_to_get_a_faster_device() -> None:
    """Decode alone is 2.5 times the step, but they share the cores: the epochs run at 0.7 of the step."""
    shared = {**CEILINGS, "decode": _near(3_750)}
    found = verdict(_pace(0.7), shared, resident=False, steps=20)
    assert (found.name, found.binding) == ("INPUT_BOUND", "decode")
    assert "a faster loader would not" not in found.sentence


def test_too_few_rounds_give_numbers_and_no_verdict() -> None:
    found = verdict(summarise([0.99, 0.98]), CEILINGS, resident=True, steps=20)
    assert found.name == "INSUFFICIENT"
    assert "2 rounds" in found.sentence


def test_too_few_steps_give_numbers_and_no_verdict() -> None:
    found = verdict(_pace(0.6), CEILINGS, resident=True, steps=19)
    assert found.name == "INSUFFICIENT"
    assert "19 steps" in found.sentence
    assert "--seconds" in found.sentence
