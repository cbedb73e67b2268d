"""Every number of tests/vectors.json, which an independent implementation computed and R, mpmath and others checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from analysis.stats import fixed as stats
from analysis.stats import sequential, spread
from analysis.stats.fixed import Sample
from analysis.stats.recursion import Design
from tests.conftest import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors.json").read_text())["vectors"]
Arguments = dict[str, Any]
Numbers = dict[str, float]


def p_at(t: float, df: int) -> float:
    """The p-value of the project's t-test where its statistic is t."""
    return stats.one_sample_t(Sample(df + 1, t / math.sqrt(df + 1), 1.0), 0.0, 0.01).p_value


def one_sample_t(args: Arguments) -> Numbers:
    sample, threshold = Sample.of(args["values"]), args["threshold"]
    test = stats.one_sample_t(sample, threshold, 0.01)
    low, high = spread.sd_interval(sample.sd, sample.n)
    return {
        "n": sample.n,
        "mean": sample.mean,
        "sd": sample.sd,
        "se": (sample.mean - threshold) / test.statistic,
        "t": test.statistic,
        "df": test.df or 0,
        "p": test.p_value,
        "ucb99": test.bound or 0,
        "ucb95": stats.one_sample_t(sample, threshold, 0.05).bound or 0,
        "sd_ci95_low": low,
        "sd_ci95_high": high,
        "cohen_d": -test.statistic / math.sqrt(sample.n),
    }


def t_critical(args: Arguments) -> Numbers:
    t = stats.critical_t(args["n"] - 1, args["alpha"])
    return {"t_crit": t, "required_gap_in_sd": t / math.sqrt(args["n"])}


def welch_margin(args: Arguments) -> Numbers:
    sample, control, margin = Sample.of(args["challenger"]), Sample.of(args["sota"]), args["margin"]
    welch, pooled = stats.welch_t(sample, control, margin, 0.01), stats.pooled_t(sample, control, margin, 0.01)
    difference = sample.mean - control.mean
    error = (difference + margin) / welch.statistic
    bound = difference + stats.critical_t(welch.df or 0, 0.01) * error
    assert stats.against_control(sample, control, margin, 0.01) == welch
    assert (welch.bound or 0) - control.mean == pytest.approx(bound, rel=1e-9)
    fewest = min(sample.n, control.n) - 1
    return {
        "diff": difference,
        "t": welch.statistic,
        "df": welch.df or 0,
        "p": welch.p_value,
        "ucb99_diff": bound,
        "pooled_sd": spread.pooled([sample.sd, control.sd], [sample.n - 1, control.n - 1]).sd,
        "pooled_t": pooled.statistic,
        "pooled_df": pooled.df or 0,
        "pooled_p": pooled.p_value,
        "hsu_df": fewest,
        "hsu_p": p_at(welch.statistic, fewest),
    }


@cache
def fixed(n: int, alpha: float) -> tuple[Design, tuple[float, ...]]:
    """A single look, which is a plain t-test."""
    return Design((n,)), sequential.boundary(Design((n,)), alpha)


def power(n: int, delta: float, alpha: float) -> float:
    return sequential.power(*fixed(n, alpha), delta)


def power_one_sample(args: Arguments) -> Numbers:
    return {"power": power(args["n"], args["delta"], args["alpha"])}


def n_required(args: Arguments) -> Numbers:
    return {"n": next(n for n in count(2) if power(n, args["delta"], args["alpha"]) >= args["power"])}


def mde_delta(args: Arguments) -> Numbers:
    return {"delta": brentq(lambda delta: power(args["n"], delta, args["alpha"]) - args["power"], 0, 20)}


def group_sequential(args: Arguments) -> Numbers:
    design = Design(tuple(args["looks"]), control=args.get("sota_seeds", 0), history_df=args.get("history_df", 0))
    found: Numbers = {}
    if "rule" in args:
        assert args["rule"] == "p<0.01 at every look"
        return {"type1": sequential.type_one_error(design, sequential.at_nominal(design, 0.01))}
    if "spending" in args:
        assert args["spending"] == "LanDeMets_OBF"
        assert args["information"] == f"n/{design.looks[-1]}"
        criticals = sequential.boundary(design, args["alpha"], sequential.OBRIEN_FLEMING)
        for n in design.looks:
            share = n / design.looks[-1]
            found[f"alpha_cum_n{n}"] = sequential.spending(args["alpha"], sequential.OBRIEN_FLEMING, share)
    else:
        assert args["design"] == "flat nominal p"
        criticals = sequential.boundary(design, args["alpha"])
        found["nominal_p"] = sequential.nominal_level(design, args["alpha"])
    if "delta" in args:
        found["power"] = sequential.power(design, criticals, args["delta"])
        found["expected_n"] = sequential.expected_seeds(design, criticals, args["delta"])
    found |= {f"crit_t_n{n}": t for n, t in zip(design.looks, criticals, strict=True)}
    return found | {"type1": sequential.type_one_error(design, criticals)}


def sequential_p_flat(args: Arguments) -> Numbers:
    design, ts = Design(tuple(args["looks_planned"])), args["t_by_look"]
    smallest = min(p_at(-t, n - 1) for n, t in zip(design.looks, ts, strict=False))
    return {"nominal_p_min": smallest, "sequential_p": sequential.sequential_p(design, ts)}


def stagewise_p(args: Arguments) -> Numbers:
    design = Design(tuple(args["looks"]))
    assert args["design"] == "flat 0.01"
    look = design.looks.index(args["stopped_at"])
    return {"p": sequential.stagewise_p(design, sequential.boundary(design, 0.01), look, args["t"])}


def repeated_ucb(args: Arguments) -> Numbers:
    design, sample = Design(tuple(args["looks_planned"])), Sample.of(args["values"])
    critical = sequential.boundary(design, args["alpha"])[design.looks.index(sample.n)]
    return {"ucb": sample.mean + critical * sample.sd / math.sqrt(sample.n)}


def evalue_t_fixed_delta(args: Arguments) -> Numbers:
    return {"e": float(sequential.e_value(args["t"], args["n"] - 1, args["n"], (args["delta"],)))}


def evalue_t_mixture(args: Arguments) -> Numbers:
    assert args["weights"] == "equal"
    e = float(sequential.e_value(args["t"], args["n"] - 1, args["n"], args["deltas"]))
    return {"e": e, "anytime_p": 1 / e}


def evalue_t_gauss_two_sided(args: Arguments) -> Numbers:
    sample, scale = Sample.of(args["values"]), math.sqrt(args["g"])
    t = -stats.one_sample_t(sample, args["threshold"], 0.01).statistic

    def weighted(delta: float) -> float:
        return float(norm.pdf(delta, scale=scale) * sequential.e_value(t, sample.n - 1, sample.n, (delta,)))

    return {"e": quad(weighted, -10 * scale, 10 * scale, epsrel=1e-10)[0]}


def known_sigma_z(args: Arguments) -> Numbers:
    sample = Sample(args["n"], args["mean"], args["sigma"])
    gain = stats.scaled_gain(sample, args["target"])
    test = stats.known_sigma_z(sample, args["target"], args["sigma"], 0.01)
    return {"statistic": gain, "passes": gain >= 0.004, "z": test.statistic, "p": test.p_value}


def known_sigma_z_pairwise(args: Arguments) -> Numbers:
    sample, control = Sample(args["n1"], 3.28 - args["diff"], 0.001), Sample(args["n2"], 3.28, 0.001)
    return {"statistic": stats.scaled_gain(sample, control.mean, control)}


def fit_variance_prior(args: Arguments) -> Numbers:
    prior = spread.prior(np.sqrt(args["s2"]), args["df"])
    return {"d0": prior.df, "s0_sq": prior.sd**2}


def pooled_history_sd(args: Arguments) -> Numbers:
    pooled = spread.pooled(np.sqrt(args["s2"]), args["df"])
    return {"pooled_sd": pooled.sd, "df": pooled.df}


def moderated_t(args: Arguments) -> Numbers:
    test = stats.moderated_t(Sample.of(args["values"]), args["threshold"], args["s0"], args["d0"], 0.01)
    return {"t": test.statistic, "df": test.df or 0, "p": test.p_value}


def rcp_min_acceptable_mean(args: Arguments) -> Numbers:
    """MLPerf drops the best and the worst run of either side and compares with a pooled t-test."""
    trimmed = sorted(args["reference"])[1:-1]
    runs, of_all, of_trimmed = args["submission_runs"] - 2, np.std(args["reference"]), np.std(trimmed)
    mean = Sample.of(trimmed).mean

    def lowest(sd: float) -> float:
        test = stats.pooled_t(Sample(runs, mean + 1, sd), Sample(len(trimmed), mean, sd), 0, 0.01)
        return mean - stats.critical_t(test.df or 0, args["alpha"]) / test.statistic

    return {
        "olympic_mean": mean,
        "sd_trimmed_pop": float(of_trimmed),
        "sd_all_pop": float(of_all),
        "min_mean_doc_trimmed_sd": lowest(float(of_trimmed)),
        "min_mean_code_untrimmed_sd": lowest(float(of_all)),
    }


def prediction_interval(args: Arguments) -> Numbers:
    low, high = stats.prediction_interval(Sample.of(args["values"]), args["m"], args["level"])
    return {"low": low, "high": high}


def nats_margin_to_bpb(args: Arguments) -> Numbers:
    """One nat is val_bpb / val_loss bits per byte."""
    nats_per_bpb = args["val_loss_over_val_bpb"]
    return {"margin_bpb": args["margin_nats_per_token"] / nats_per_bpb, "bytes_per_token": nats_per_bpb / math.log(2)}


FUNCTIONS: dict[str, Callable[[Arguments], Numbers]] = {
    "one_sample_t": one_sample_t,
    "one_sample_p_n3": lambda args: {"p": p_at(args["t"], 2)},
    "t_critical": t_critical,
    "welch_margin": welch_margin,
    "power_one_sample": power_one_sample,
    "n_required": n_required,
    "mde_delta": mde_delta,
    "group_sequential": group_sequential,
    "sequential_p_flat": sequential_p_flat,
    "stagewise_p": stagewise_p,
    "repeated_ucb": repeated_ucb,
    "evalue_t_fixed_delta": evalue_t_fixed_delta,
    "evalue_t_mixture": evalue_t_mixture,
    "evalue_t_gauss_two_sided": evalue_t_gauss_two_sided,
    "known_sigma_z": known_sigma_z,
    "known_sigma_z_pairwise": known_sigma_z_pairwise,
    "fit_variance_prior": fit_variance_prior,
    "pooled_history_sd": pooled_history_sd,
    "moderated_t": moderated_t,
    "rcp_min_acceptable_mean": rcp_min_acceptable_mean,
    "prediction_interval": prediction_interval,
    "nats_margin_to_bpb": nats_margin_to_bpb,
    "prob_any_false": lambda args: {"p": 1 - (1 - args["alpha"]) ** args["attempts"]},
}


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["id"])
def test_every_number_of_a_case_is_met(case: dict[str, Any]) -> None:
    found, expected, tolerance = FUNCTIONS[case["function"]](case["args"]), case["expected"], case["tol_rel"]
    assert expected
    assert set(expected) <= set(found)
    for field, number in expected.items():
        near = pytest.approx(number, rel=tolerance, abs=0) if tolerance else number
        assert found[field] == near, field


def test_no_case_is_left_out() -> None:
    assert {case["function"] for case in VECTORS} == set(FUNCTIONS)
    assert len(VECTORS) == 99
    assert len({case["id"] for case in VECTORS}) == 99


def test_three_seeds_have_the_closed_form_of_the_file() -> None:
    [case] = [case for case in VECTORS if case["function"] == "one_sample_p_n3"]
    t = case["args"]["t"]
    assert p_at(t, 2) == pytest.approx((1 + t / math.sqrt(t * t + 2)) / 2, rel=case["tol_rel"], abs=0)
