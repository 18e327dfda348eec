import pytest

from bench.stats import Summary, summarise
from bench.verdict import verdict


def _near(rate: float) -> Summary:
    return summarise([rate * factor for factor in (0.99, 0.995, 1.0, 1.005, 1.01)])


CEILINGS = {"read": _near(200_000), "decode": _near(9_000), "gather": _near(80_000), "step": _near(1_500)}


@pytest.mark.parametrize(
    ("epochs", "name"),
    [(1_495, "COMPUTE_BOUND"), (1_350, "INPUT_LIMITED"), (900, "INPUT_BOUND"), (1_425, "UNDECIDED")],
)
def test_the_share_of_waiting_decides(epochs: float, name: str) -> None:
    found = verdict(_near(epochs), CEILINGS, resident=True)
    assert found.name == name
    assert found.sentence.startswith(name)
    assert 0 <= found.waiting[0] <= found.waiting[1] <= 1


def test_the_path_depends_on_where_the_set_lies() -> None:
    slow_decode = {**CEILINGS, "decode": _near(700)}
    assert verdict(_near(690), slow_decode, resident=False).binding == "decode"
    assert "more cores" in verdict(_near(690), slow_decode, resident=False).sentence
    assert verdict(_near(1_490), slow_decode, resident=True).binding == "step"


def test_too_few_epochs_give_numbers_and_no_verdict() -> None:
    found = verdict(summarise([1_500.0, 1_490.0]), CEILINGS, resident=True)
    assert found.name == "INSUFFICIENT"
    assert "2 epochs" in found.sentence
