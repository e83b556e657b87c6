"""A quick study: a first answer in a minute. Its batch sizes, and how far its answer is to be believed.

Three batch sizes, one seed a rate, a climb over the grid of rates. The rates and seeds are those of a full study, which
can go on from its runs.
"""

from dataclasses import replace

from digits_sweep.errors import InvalidConfig
from digits_sweep.results.critical import Factor
from digits_sweep.search.settings import SIZE, CriticalConfig, Request, plan_batch_size
from digits_sweep.sweep.fitting import fitted_run, train_examples

# How far the answers of quick studies lay from those of full ones, on new seeds and with goals that were typed: MNIST
# with hidden size 128 and 32 and with a softmax, and optdigits with a CNN.
FACTOR = Factor(times=1.5, held=22, of=26)
# A law of the steps has three numbers; the third of them, its exponent, hardly differs from case to case.
QUICK_SIZES = 3
# The largest batch size, and the share of the training set that a batch may be.
LARGEST, SHARE = 1_000, 0.5


def with_few_sizes(request: Request[CriticalConfig]) -> Request[CriticalConfig]:
    """Return the request of a quick study with three batch sizes that suit the data, unless batch sizes are typed.

    The two smallest of the full study and its largest one that is at most half of the training set; of less data,
    a half, an eighth and a 32nd of it. Raises `InvalidConfig` if there are fewer than three.
    """
    planned = request.planned
    runs = {run.config.data.batch_size: run for run in planned.runs}
    chosen = sorted(runs)
    if SIZE not in planned.typed:
        half = LARGEST
        if planned.settings.command is None:
            half = int(train_examples(planned.runs[0].config) * SHARE)
        fitting = [size for size in chosen if size <= min(LARGEST, half)]
        chosen = [*fitting[:2], fitting[-1]] if len(fitting) >= QUICK_SIZES else [half // 16, half // 4, half]
    if len(chosen) < QUICK_SIZES or not 0 < chosen[0] < chosen[1] < chosen[2]:
        raise InvalidConfig(f"{SIZE}={','.join(map(str, chosen))}: a quick study needs {QUICK_SIZES} or more")
    others = [size for size in chosen if size not in runs]
    runs |= {size: fitted_run(plan_batch_size(request.arguments, size), planned.runs[0]) for size in others}
    return replace(request, planned=replace(planned, runs=tuple(runs[size] for size in chosen)))
