"""Price files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.records.prices import priced, read_prices
from tests.invented import ALPHA, BETA
from tests.invented_runs import Run


def file(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


def test_a_price_for_all_and_others_by_name(run: Run, tmp_path: Path) -> None:
    prices = read_prices(file(tmp_path, "usd_per_hour = 2.5\n[candidates]\nbeta = 4\n"))
    runs = priced([run(ALPHA), run(BETA)], prices, "prices.toml")
    assert [one.manifest.candidate.price_usd_per_hour for one in runs] == [2.5, 4.0]


def test_a_candidate_without_a_price_in_the_file_keeps_its_own(run: Run, tmp_path: Path) -> None:
    runs = [run(ALPHA, candidate__price_usd_per_hour=9.0), run(BETA)]
    found = priced(runs, read_prices(file(tmp_path, "[candidates]\nbeta = 4.0\n")), "prices.toml")
    assert [one.manifest.candidate.price_usd_per_hour for one in found] == [9.0, 4.0]
    assert runs[1].manifest.candidate.price_usd_per_hour is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("usd = 3", "unknown key 'usd'"),
        ("", "no price; write usd_per_hour = 2.99"),
        ("usd_per_hour = 0", "usd_per_hour is 0.0; it must be above 0"),
        ("[candidates]\nalpha = -1", "alpha is -1.0; it must be above 0"),
        ("usd_per_hour = 'cheap'", "Expected `float | null`, got `str`"),
        ("usd_per_hour", "not TOML"),
        ("[candidates]\ngamma = 1.0", "unknown candidate 'gamma'"),
    ],
)
def test_mistakes_get_one_line(run: Run, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        priced([run(ALPHA)], read_prices(file(tmp_path, text)), str(tmp_path / "prices.toml"))
    assert said in str(caught.value) and "prices.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot read the price file"):
        read_prices(tmp_path / "no.toml")
