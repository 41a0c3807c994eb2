"""Prices and the power command of a comparison file."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.campaign.contender import Contender
from harness.errors import HarnessError
from harness.records.manifest import ModelFacts
from harness.workload.plan import Plan, read_plan, with_prices

BASE = """
name = "priced"
{top}
[workload]
input_tokens = 16
output_tokens = 8
[[workload.load]]
concurrency = 1
requests = 3
[[candidate]]
engine = "fake"
[[candidate]]
name = "dear"
engine = "fake"
price_usd_per_hour = {own}
[price]
usd_per_hour = {price}
"""


def plan(folder: Path, price: str = "2.99", own: str = "8.5", top: str = "") -> Plan:
    path = folder / "c.toml"
    path.write_text(BASE.format(price=price, own=own, top=top))
    return with_prices(read_plan(path))


def test_a_candidate_has_its_own_price_or_that_of_the_comparison(tmp_path: Path) -> None:
    assert [one.price_usd_per_hour for one in plan(tmp_path).candidates] == [2.99, 8.5]


def test_it_is_a_fact_of_its_own_in_the_manifest(tmp_path: Path) -> None:
    """Among what the candidate declares, it would excuse a difference in settings."""
    import engines

    dear = plan(tmp_path).candidates[1]
    facts = Contender(dear, engines.load()["fake"], {}, ModelFacts()).facts()
    assert facts.price_usd_per_hour == 8.5 and facts.given == {}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"price": "0"}, "price.usd_per_hour is 0.0; it must be above 0"),
        ({"own": "-2"}, "price_usd_per_hour is -2.0; it must be above 0"),
        ({"price": "'much'"}, "Expected `float`, got `str`"),
        ({"price": "1.0\nusd_per_day = 3"}, "unknown key 'price.usd_per_day'"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, keys: dict[str, str], said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        plan(tmp_path, **keys)
    assert said in str(caught.value) and "c.toml" in str(caught.value)


def test_a_power_command_is_kept_as_it_is(tmp_path: Path) -> None:
    assert plan(tmp_path).power_command == ""
    assert plan(tmp_path, top='power_command = "meter --watts"').power_command == "meter --watts"
