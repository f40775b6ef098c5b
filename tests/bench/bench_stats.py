"""Measure the statistics: false rollbacks, delays over the bound, promotion, and CPU.

    python tests/bench/bench_stats.py [--quick] [--json] [--only NAME ...]

Everything is simulated from fixed seeds with the classes that the judge uses. "plain" is the test
without restarts, "served" the one the judge runs (it also bets that trouble starts late).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inprod.guards.guard import Verdict
from inprod.stats import forecast
from inprod.stats.difference import DifferenceTest
from inprod.stats.histogram import BIN_RATIO, HistogramTest
from inprod.stats.ratio import NO_RESTARTS, RatioTest, Restarts

ALPHAS = (0.05, 0.01)
CELLS = [(base, share) for base in (0.01, 0.001) for share in (0.01, 0.05, 0.5)]
EFFECTS = [(0.001, 0.01), (0.01, 0.02), (0.01, 0.012)]
Row = dict[str, float | str]


def upper99(hits: int, runs: int) -> float:
    """Return the upper end of Wilson's two-sided 99 % interval of a share."""
    z = 2.5758
    p = hits / runs
    middle = p + z * z / (2 * runs)
    half = z * math.sqrt(p * (1 - p) / runs + z * z / (4 * runs * runs))
    return (middle + half) / (1 + z * z / runs)


def test_of(restarts: Restarts | None, runs: int, **ratios: float) -> RatioTest:
    """Return a ratio test of many runs at once; the null is a ratio of one unless told."""
    return RatioTest(
        abort_ratio=ratios.get("abort", 1.0), promote_ratio=ratios.get("promote", 1.5),
        restarts=restarts, shape=(runs,), with_interval=False,
    )  # fmt: skip


def false_rollback(quick: bool) -> list[Row]:
    """A/A, a look after each 1000 requests to a million."""
    runs, looks = (1000, 300) if quick else (10_000, 1000)
    rows: list[Row] = []
    for seed, (base, share) in enumerate(CELLS, start=10):
        rng = np.random.default_rng(seed)
        tests = {"plain": test_of(NO_RESTARTS, runs), "served": test_of(None, runs)}
        for _ in range(looks):
            n = rng.binomial(1000, share, runs)
            bad, other = rng.binomial(n, base), rng.binomial(1000 - n, base)
            for test in tests.values():
                test.add(treated_n=n, control_n=1000 - n, treated_bad=bad, control_bad=other)
                test.close_look()
        row: Row = {"cell": f"{base:g} at {share:g}"}
        for name, test in tests.items():
            for alpha in ALPHAS:
                hits = int((np.asarray(test.log_e_abort_max) >= -math.log(alpha)).sum())
                row[f"{name}_{alpha:g}"] = hits / runs
                row[f"{name}_{alpha:g}_upper99"] = upper99(hits, runs)
        rows.append(row)
    return rows


def delay(quick: bool) -> list[Row]:
    """Treated requests until a true regression is seen, over the information bound."""
    runs = 200 if quick else 1000
    rows: list[Row] = []
    for seed, ((base, worse), share) in enumerate(
        [(effect, share) for effect in EFFECTS for share in (0.01, 0.05, 0.5)], start=100
    ):
        rng = np.random.default_rng(seed)
        growth = forecast.growth_per_treated(base, share, worse / base, 1.0)
        tests = {"plain": test_of(NO_RESTARTS, runs), "served": test_of(None, runs)}
        stops = {(name, alpha): np.full(runs, np.nan) for name in tests for alpha in ALPHAS}
        seen = np.zeros(runs)
        batch = round(10 / share)
        for _ in range(20_000):
            n = rng.binomial(batch, share, runs)
            bad, other = rng.binomial(n, worse), rng.binomial(batch - n, base)
            seen += n
            for name, test in tests.items():
                test.add(treated_n=n, control_n=batch - n, treated_bad=bad, control_bad=other)
                test.close_look()
                for alpha in ALPHAS:
                    stop = stops[name, alpha]
                    crossed = np.isnan(stop) & (
                        np.asarray(test.log_e_abort_max) >= -math.log(alpha)
                    )
                    stop[crossed] = seen[crossed]
            if not any(np.isnan(stop).any() for stop in stops.values()):
                break
        row: Row = {"cell": f"{base:g} to {worse:g} at {share:g}"}
        for (name, alpha), stop in stops.items():
            bound = -math.log(alpha) / growth
            row[f"{name}_{alpha:g}_median"] = float(np.nanmedian(stop))
            row[f"{name}_{alpha:g}_mean_over_bound"] = float(np.nanmean(stop)) / bound
            guess = (-math.log(alpha) + forecast.OVERSHOOT) / growth
            row[f"{name}_{alpha:g}_forecast_over_median"] = guess / float(np.nanmedian(stop))
        row["undecided"] = float(max(np.isnan(stop).mean() for stop in stops.values()))
        rows.append(row)
    return rows


def drift(quick: bool) -> list[Row]:
    """A/A through a ramp 1, 5, 25, 50 % while the base rate climbs from 0.5 to 3 %."""
    runs, looks = (500, 200) if quick else (4000, 400)
    rng = np.random.default_rng(7)
    test = test_of(None, runs)
    for look in range(looks):
        share = (0.01, 0.05, 0.25, 0.5)[4 * look // looks]
        base = 0.005 + 0.025 * look / looks
        if look and 4 * look % looks == 0:
            test.restart()
        n = rng.binomial(1000, share, runs)
        bad, other = rng.binomial(n, base), rng.binomial(1000 - n, base)
        test.add(treated_n=n, control_n=1000 - n, treated_bad=bad, control_bad=other)
        test.close_look()
    return [_hits("ramp 1/5/25/50 %, base 0.5 to 3 %", np.asarray(test.log_e_abort_max))]


def sticky(quick: bool) -> list[Row]:
    """A/A with users who make 20 requests each and differ: each counted once, at risk until bad."""
    runs, looks, users = (200, 60, 2000) if quick else (1000, 200, 5000)
    rows: list[Row] = []
    for seed, share in enumerate((0.01, 0.05, 0.5), start=50):
        rng = np.random.default_rng(seed)
        test = test_of(None, runs)
        tendency = rng.beta(0.05, 0.95, (runs, users))
        treated = rng.random((runs, users)) < share
        fresh = np.ones((runs, users), dtype=bool)
        for _ in range(looks):
            failed = fresh & (rng.random((runs, users)) < 1 - (1 - tendency) ** (20 / looks))
            test.add(
                treated_n=(fresh & treated).sum(1), control_n=(fresh & ~treated).sum(1),
                treated_bad=(failed & treated).sum(1), control_bad=(failed & ~treated).sum(1),
            )  # fmt: skip
            test.close_look()
            fresh &= ~failed
        rows.append(_hits(f"share {share:g}", np.asarray(test.log_e_abort_max)))
    return rows


def twenty(quick: bool) -> list[Row]:
    """A/A with 20 independent guards, averaged; and one bad among 20."""
    runs, looks = (300, 300) if quick else (1500, 1000)
    rng = np.random.default_rng(20)
    test = RatioTest(abort_ratio=1.0, promote_ratio=1.5, shape=(runs, 20), with_interval=False)
    highest = np.zeros(runs)
    for _ in range(looks):
        n = rng.binomial(1000, 0.05, (runs, 1)).repeat(20, 1)
        bad, other = rng.binomial(n, 0.01), rng.binomial(1000 - n, 0.01)
        test.add(treated_n=n, control_n=1000 - n, treated_bad=bad, control_bad=other)
        test.close_look()
        log_e = test.log_e_abort()
        top = log_e.max(1)
        highest = np.maximum(highest, top + np.log(np.exp(log_e - top[:, None]).mean(1)))
    return [_hits("20 independent guards, mean of e-values", highest)]


def promotion(quick: bool) -> list[Row]:
    """Non-inferiority: false promotes with the truth on the margin, and how soon an A/A passes."""
    runs = 300 if quick else 1500
    rows: list[Row] = []
    cells = [(b, r, s) for b, r in ((0.01, 1.5), (0.001, 2.0)) for s in (0.01, 0.05, 0.5)]
    for seed, (base, limit, share) in enumerate(cells, start=200):
        rng = np.random.default_rng(seed)
        row: Row = {"cell": f"{base:g} x{limit:g} at {share:g}"}
        bound = forecast.treated_needed(math.exp(-2.995732), base, share, 1.0, limit)
        row["bound"] = bound * 2.995732 / 3.995732
        per_look = max(round(bound / 100), 10)
        batch = round(per_look / share)
        for name, truth in (("aa", base), ("margin", base * limit)):
            ratio = test_of(NO_RESTARTS, runs, promote=limit)
            apart = DifferenceTest(margin=base * (limit - 1), shape=(runs,))
            highest = {"ratio": np.zeros(runs), "difference": np.zeros(runs)}
            stops = {"ratio": np.full(runs, np.nan), "difference": np.full(runs, np.nan)}
            seen = np.zeros(runs)
            for _ in range(400):
                n = rng.binomial(batch, share, runs)
                bad, other = rng.binomial(n, truth), rng.binomial(batch - n, base)
                seen += n
                ratio.add(treated_n=n, control_n=batch - n, treated_bad=bad, control_bad=other)
                apart.add(
                    np.array([0.0, 1.0]), np.stack([n - bad, bad], 1).astype(float),
                    np.stack([batch - n - other, other], 1).astype(float),
                )  # fmt: skip
                for which, test in (("ratio", ratio), ("difference", apart)):
                    highest[which] = np.maximum(highest[which], test.log_e_promote())
                    new = np.isnan(stops[which]) & (highest[which] >= -math.log(0.05))
                    stops[which][new] = seen[new]
            for which, stop in stops.items():
                if name == "aa":
                    row[f"{which}_median"] = float(np.nanmedian(stop))
                    row[f"{which}_undecided"] = float(np.isnan(stop).mean())
                else:
                    row[f"{which}_false_promote"] = float(np.isfinite(stop).mean())
        rows.append(row)
    return rows


def late(quick: bool) -> list[Row]:
    """1 to 2 % at a 5 % share, setting in after 0 or 500 clean looks; alpha .05."""
    runs = 100 if quick else 400
    rows: list[Row] = []
    for onset in (0, 500):
        rng = np.random.default_rng(9)
        tests = {"plain": test_of(NO_RESTARTS, runs), "served": test_of(None, runs)}
        stops = {name: np.full(runs, np.nan) for name in tests}
        seen = np.zeros(runs)
        for look in range(3000):
            n = rng.binomial(200, 0.05, runs)
            bad = rng.binomial(n, 0.02 if look >= onset else 0.01)
            other = rng.binomial(200 - n, 0.01)
            seen += n if look >= onset else 0
            for name, test in tests.items():
                test.add(treated_n=n, control_n=200 - n, treated_bad=bad, control_bad=other)
                test.close_look()
                new = np.isnan(stops[name]) & (test.log_e_abort() >= -math.log(0.05))
                stops[name][new] = seen[new]
        rows.append(
            {"cell": f"onset after {onset} looks"}
            | {f"{name}_median": float(np.nanmedian(stop)) for name, stop in stops.items()}
        )
    return rows


def latency(quick: bool) -> list[Row]:
    """Lognormal latencies, body and tail shifts: treated requests over the bound; and A/A."""
    runs = 20 if quick else 100
    cells = [(kind, factor, share) for kind, factor in
             (("body", 1.5), ("body", 1.1), ("tail", 1.5), ("tail", 1.1))
             for share in (0.01, 0.05, 0.5)]  # fmt: skip
    rows: list[Row] = []
    for seed, (kind, factor, share) in enumerate(cells, start=300):
        if quick and (kind, factor) == ("tail", 1.1):
            continue
        rng = np.random.default_rng(seed)
        slow = _slower(kind, factor)
        bound = 2.995732 / _latency_growth(slow, share)
        step = max(10, round(bound / 25))
        stops = [_latency_run(rng, slow, share, step, round(bound * 15)) for _ in range(runs)]
        known = [stop for stop in stops if stop is not None]
        rows.append({
            "cell": f"{kind} x{factor:g} at {share:g}", "bound": bound,
            "median_over_bound": float(np.median(known)) / bound,
            "mean_over_bound": float(np.mean(known)) / bound,
            "undecided": 1 - len(known) / runs,
        })  # fmt: skip
    rng = np.random.default_rng(399)
    runs = 100 if quick else 500
    hits = [_latency_run(rng, lambda x, _: x, 0.05, 25, 10_000) is not None for _ in range(runs)]
    rows.append({"cell": "A/A, 400 looks, at .05", "rate": float(np.mean(hits)),
                 "upper99": upper99(sum(hits), runs)})  # fmt: skip
    return rows


def _slower(kind: str, factor: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Return a regression that moves p99 by `factor`: all of the body, or stretched above p90."""
    edge = math.exp(0.6 * 1.2815516) * 100
    stretch = math.log(factor) / (0.6 * (2.3263479 - 1.2815516))

    def slow(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        del rng
        if kind == "body":
            return values * factor
        return values * np.maximum(values / edge, 1.0) ** stretch

    return slow


def _latency_growth(slow: Callable[..., np.ndarray], share: float) -> float:
    """Return the best growth per treated request with the baseline unknown, from 4e6 values."""
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(0, 0.6, 4_000_000)) * 100
    bins = np.arange(0, 12, 0.01)
    before = np.histogram(np.log(values), bins)[0] / len(values)
    after = np.histogram(np.log(slow(values, rng)), bins)[0] / len(values)
    pool = share * after + (1 - share) * before
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(after > 0, after * np.log(after / pool), 0).sum()
        other = np.where(before > 0, before * np.log(before / pool), 0).sum()
    return float(one + other * (1 - share) / share)


def _latency_run(
    rng: np.random.Generator, slow: Callable[..., np.ndarray], share: float, step: int, most: int
) -> int | None:
    def bins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        where = np.floor(np.log(values) / math.log(BIN_RATIO)).astype(np.int64)
        found, counts = np.unique(where, return_counts=True)
        return found, counts.astype(float)

    test = HistogramTest(restarts=NO_RESTARTS)
    test.learn(*bins(np.exp(rng.normal(0, 0.6, 20_000)) * 100))
    seen = 0
    while seen < most:
        mine, counts = bins(slow(np.exp(rng.normal(0, 0.6, step)) * 100, rng))
        others = min(round(step * (1 - share) / share), 100 * step)
        other, other_counts = bins(np.exp(rng.normal(0, 0.6, others)) * 100)
        test.add(treated_bins=mine, treated=counts, control_bins=other, control=other_counts)
        test.learn(other, other_counts)
        test.close_look()
        seen += step
        if test.log_e_abort_max >= 2.995732:
            return seen
    return None


def cpu(quick: bool) -> list[Row]:
    """One bucket added and judged, 20 guards: 12 errors, 4 latency, 3 means, 1 sample ratio."""
    from support.guards_traffic import TwentyGuards

    traffic = TwentyGuards(seed=3)
    judge = traffic.judge()
    spent: list[float] = []
    for bucket in range(60 if quick else 400):
        cells = traffic.cells(bucket)
        before = time.process_time()
        judge.add(bucket, cells)
        judge.judgement(bucket)
        spent.append((time.process_time() - before) * 1000)
    median, p99 = np.percentile(spent, (50, 99)).tolist()
    mean = float(np.mean(spent))
    return [{"cell": "20 guards", "mean_ms": mean, "median_ms": median, "p99_ms": p99}]


def whole_judge(quick: bool) -> list[Row]:
    """A/A through Judge at alpha .05 without tolerances: errors, latency and mean over a ramp."""
    from support.guards_traffic import ramp_judge

    runs = 40 if quick else 400
    broken = held = suspect = 0
    for seed in range(runs):
        judgement = ramp_judge(seed, alpha=0.05)
        broken += judgement.verdict is Verdict.BROKEN
        held += judgement.verdict is Verdict.HOLDS
        suspect += bool(judgement.suspect)
    return [
        {
            "cell": "3 guards, ramp 5/20/50 %",
            "false_rollback": broken / runs,
            "upper99": upper99(broken, runs),
            "holds": held / runs,
            "suspect": suspect / runs,
        }
    ]


def _hits(name: str, highest: np.ndarray) -> Row:
    row: Row = {"cell": name}
    for alpha in ALPHAS:
        hits = int((highest >= -math.log(alpha)).sum())
        row[f"rate_{alpha:g}"] = hits / len(highest)
        row[f"rate_{alpha:g}_upper99"] = upper99(hits, len(highest))
    return row


EXPERIMENTS: dict[str, Callable[[bool], list[Row]]] = {
    "cpu": cpu, "false_rollback": false_rollback, "delay": delay, "drift": drift,
    "sticky": sticky, "twenty": twenty, "promotion": promotion, "late": late, "latency": latency,
    "whole_judge": whole_judge,
}  # fmt: skip


def main() -> None:
    """Run the experiments asked for and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs, for a first impression")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", nargs="*", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    asked = parser.parse_args()
    answers: dict[str, list[Row]] = {}
    for name in asked.only:
        began = time.process_time()
        answers[name] = EXPERIMENTS[name](asked.quick)
        print(f"{name}: {time.process_time() - began:.0f} s of CPU", file=sys.stderr)
        if not asked.json:
            for row in answers[name]:
                shown = (f"{k}={v:.4g}" if isinstance(v, float) else v for k, v in row.items())
                print(f"  {'  '.join(shown)}", flush=True)
    if asked.json:
        print(json.dumps(answers, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
