"""The arithmetic of a training step against figures worked out by hand, and the published rows."""

from __future__ import annotations

import pytest

from benchmarks import budget
from benchmarks.budget import SEQ4096, SHARE_TOKENS

PARTS = {part.name.split(",")[0]: part for part in budget.budget(SEQ4096, SHARE_TOKENS)}


def test_the_arithmetic_of_a_step_is_the_recipes_own() -> None:
    assert SEQ4096.params == 17_059_912
    assert SEQ4096.useful_tflop(SEQ4096.batch_tokens) == pytest.approx(84.8, abs=0.05)
    assert budget.peak_share(SEQ4096, SHARE_TOKENS, 71.47) == pytest.approx(148 / 989, abs=0.001)


def test_attention_in_the_published_rows() -> None:
    # 9 layers, 512 columns: 65,536 tokens with 1,024 more each, 12 x 9 x 512 x 1,024 / 2 FLOP a token, in 51.89 - 43.54 ms
    assert budget.published_attention_tflops() == pytest.approx(65_536 * 28_311_552 / 8.35e-3 / 1e12)
    assert budget.published_attention_tflops() == pytest.approx(222.2, abs=0.01)
    # 49,152 tokens x 113,246,208 FLOP = 5.566 TFLOP
    assert PARTS["attention"].forecast_ms == pytest.approx(5.566 / 222.2 * 1000, abs=0.01)
    assert PARTS["attention"].forecast_ms == pytest.approx(25.05, abs=0.01)
    # at 1,024 tokens attention takes these 8.35 ms as well
    assert budget.published_rest_ms() == pytest.approx((35.19 * 0.75, 35.19))


def test_a_floor_is_the_longer_of_arithmetic_and_traffic_at_the_data_sheets_rates() -> None:
    # attention: 7/6 of the usual count. It reads and writes 3 A a layer, 3.5 times, A being 49,152 x 512 x 2 bytes
    assert PARTS["attention"].tflop == pytest.approx(5.566 * 7 / 6, abs=0.001)
    assert PARTS["attention"].gigabytes == pytest.approx(9 * 3 * 3.5 * 0.05033, abs=0.001)
    assert PARTS["attention"].floor_ms == pytest.approx(6.494 / 0.989, abs=0.001)
    # 9 x (4 + 3 + 4 + 4 + 3) A, 2.5 times
    assert PARTS["elementwise in the blocks"].floor_ms == pytest.approx(9 * 18 * 2.5 * 0.05033 / 3.35, abs=0.01)
    # a block has 1,835,008 matrix parameters
    assert PARTS["products of the blocks"].floor_ms == pytest.approx(6 * 9 * 1_835_008 * 49_152 / 989e9, abs=0.02)


def test_no_forecast_is_below_its_floor() -> None:
    for part in PARTS.values():
        assert part.forecast_ms >= part.floor_ms
    assert sum(part.floor_ms for part in PARTS.values()) == pytest.approx(17.9, abs=0.05)
    assert sum(part.forecast_ms for part in PARTS.values()) == pytest.approx(45.2, abs=0.05)
