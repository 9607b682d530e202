"""Ratios of figures that belong together in pairs, with how sure they are."""

import math
import statistics

RESAMPLES = 10_000


def paired(pairs, chance, middle=statistics.median):
    """The middle of the ratios of (reference, subject), and the ends of its 95 % bootstrap interval."""
    logs = [math.log(subject / reference) for reference, subject in pairs]
    drawn = sorted(middle(chance.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    ends = drawn[RESAMPLES * 25 // 1000], drawn[RESAMPLES * 975 // 1000 - 1]
    return tuple(math.exp(log) for log in (middle(logs), *ends))


def trimmed_mean(values):
    """Without a fifth at either end."""
    cut = len(values) // 5
    return statistics.fmean(sorted(values)[cut:len(values) - cut])
