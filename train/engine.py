"""The loop: one epoch, scoring, the learning-rate schedule, and a run that survives being killed.

The recipe is the paper's (https://arxiv.org/abs/2406.09398): Adam, learning rate divided by 10 when
validation accuracy has not risen by 0.1 % for 5 epochs, stop when it falls below 1e-6. Everything
random is drawn from (seed, epoch) and the state is saved whole, atomically, after every epoch, so a
run that is killed and started again ends with the weights of one that never was.
"""

import copy
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.errors import CheckpointError, InputError, OtherRunError
from schemas.policy import TrainPolicy
from train.checkpoint import from_bytes, to_bytes, write_atomically
from train.config import Compute, recipe_key
from train.detectors import PatchDetector
from train.detectors.patches import NORM_MOMENTUM
from train.loader import Batch
from train.metrics import summary
from train.replay import Replay, Work
from train.transforms import Preprocessing, normalise, sent

logger = logging.getLogger(__name__)

BETAS = (0.9, 0.999)
"""Adam's, of the paper."""

MIN_RISE = 0.001
"""Validation accuracy must rise by this much to count as progress (0.1 %)."""

DECAY = 0.1
"""What the learning rate is multiplied by on a plateau."""

BEST_BY = "val average precision, then accuracy, then loss"

OUT_OF_TIME = "max_minutes"
"""What the reason of a run that stopped and is to be continued begins with."""

NORM_WARMUP = 10.0
"""Running statistics cover about the last tenth of the steps so far, until the paper's thousand."""

AVERAGE_START = 10.0
"""The running mean of weights covers about the last tenth of the steps so far, until its own decay."""

LAG = 4
"""Steps a GPU may be behind the host: reading its loss after each would leave it idle until the next."""

Clock = Callable[[], float]

Steps = Iterator[tuple[Tensor, int]]
"""The loss (a scalar, maybe still being computed) and the count of each step."""


class Progress(Protocol):
    """Who is told how far a run is."""

    def start(self, what: str, total: int | None) -> None:
        """A stage of `total` items begins."""

    def advance(self, items: int) -> None:
        """So many more items are done."""


class Silent:
    """Progress told to no one."""

    def start(self, what: str, total: int | None) -> None:
        """A stage begins."""

    def advance(self, items: int) -> None:
        """So many more items are done."""


class OutOfTime(Exception):  # not an error
    """Raised between two steps when the run's minutes are over."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch came to.

    `loss` is per image (per patch in distillation), None where the minutes ended before the first
    step; `seconds` is wall time; `augmented` counts the windows that underwent each treatment.
    """

    epoch: int
    loss: float | None
    val_loss: float
    val: dict[str, float | int | None]
    learning_rate: float
    best: bool
    partial: bool
    seconds: float
    images_per_s: float
    augmented: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """One line of the curve."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Plateau:
    """Where the learning-rate schedule stands."""

    learning_rate: float
    best: float = -1.0
    waited: int = 0

    def step(self, accuracy: float, patience: int) -> "Plateau":
        """The schedule after an epoch with this validation accuracy."""
        if accuracy >= self.best + MIN_RISE:
            return Plateau(self.learning_rate, accuracy, 0)
        if self.waited + 1 >= patience:
            return Plateau(self.learning_rate * DECAY, self.best, 0)
        return Plateau(self.learning_rate, self.best, self.waited + 1)


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step needs besides its batch."""

    detector: PatchDetector
    optimizer: torch.optim.Optimizer
    preprocessing: Preprocessing
    compute: Compute
    norm_warmup: bool
    check_time: Callable[[], None]
    average: "Average | None" = None
    done: Counter[str] = field(default_factory=Counter)
    statistics: "Statistics | None" = None
    replay: Replay | None = None


class Average:
    """The running mean of a detector's weights and running statistics, (1 - decay) of each step.

    At a constant learning rate it does what a falling one does at the end of a run, without knowing where
    the end is: a run that stops when its minutes are over is as good as one that was planned to.
    """

    def __init__(self, detector: PatchDetector, decay: float) -> None:
        self.detector: PatchDetector = copy.deepcopy(detector).eval()
        self.decay = decay
        self._mine, self._theirs = _floating(self.detector), _floating(detector)

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the weights after step `number` (from 0)."""
        decay = min(self.decay, (1 + number) / (AVERAGE_START + number))
        torch._foreach_lerp_(self._mine, self._theirs, 1 - decay)


class Statistics:
    """The running statistics of a compiled or recorded detector, moved outside of it.

    A momentum is a constant of compiled code: one that changes each step would have it compiled anew each
    time, and given up after eight. With a momentum of 1 each BatchNorm leaves the statistics of its batch,
    which are taken in here as far as the momentum of the step says.
    """

    def __init__(self, detector: nn.Module) -> None:
        norms = _norms(detector)
        for norm in norms:
            norm.momentum = 1.0
        held = [(norm.running_mean, norm.running_var) for norm in norms]
        self._batch = [tensor for pair in held for tensor in pair if tensor is not None]
        self._running = [tensor.clone() for tensor in self._batch]

    @torch.no_grad()
    def take_in(self, momentum: float) -> None:
        """Move on by what the last forward pass saw."""
        torch._foreach_lerp_(self._running, self._batch, momentum)
        torch._foreach_copy_(self._batch, self._running)


def _norms(detector: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]


def _floating(detector: nn.Module) -> list[Tensor]:
    """Weights and running statistics; not the counters."""
    held = (*detector.parameters(), *detector.buffers())
    return [tensor.detach() for tensor in held if tensor.is_floating_point()]


def train_one_epoch(step: Step, batches: Iterable[Batch], done: int) -> Steps:
    """One pass; yields the loss per image in nats and the images of every step, `done` steps in."""
    step.detector.train()

    def loss_of(images: Tensor, targets: Tensor) -> Tensor:
        inputs = normalise(images, step.preprocessing, step.compute.device)
        with step.compute.autocast():
            logits = step.detector(inputs).squeeze(1)  # (B,)
        return F.binary_cross_entropy_with_logits(logits.float(), targets)

    for number, batch in enumerate(batches, start=done):
        step.check_time()
        loss = descend(step, loss_of, batch.images, torch.from_numpy(batch.targets), number)
        step.done.update(batch.done)
        yield loss, len(batch.targets)


def descend(step: Step, loss_of: Work, images: Tensor, targets: Tensor, number: int) -> Tensor:
    """One optimiser step, `number` (from 0), on the loss of a batch; that loss.

    Then moves the running mean of the weights, and sets how fast running statistics move in the next
    forward pass.
    """

    def work(images: Tensor, targets: Tensor) -> Tensor:
        step.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, targets)
        loss.backward()
        step.optimizer.step()
        return loss.detach()

    if step.replay is None:
        loss = work(images, sent(targets, step.compute.device))
    else:
        loss = step.replay(work, images, targets)
    if step.statistics is not None:
        step.statistics.take_in(norm_momentum(number if step.norm_warmup else None))
    if step.average is not None:
        step.average.update(number)
    if step.statistics is None:
        set_norm_momentum(step.detector, number + 1 if step.norm_warmup else None)
    return loss


def norm_momentum(number: int | None) -> float:
    """How far the running statistics move in step `number` (from 0); None for the paper's 0.001.

    At 0.001 they still hold a third of their meaningless start after 1,000 steps, so that a short
    run is judged by statistics it never had.
    """
    if number is None:
        return NORM_MOMENTUM
    return max(NORM_MOMENTUM, NORM_WARMUP / (number + NORM_WARMUP))


def set_norm_momentum(detector: nn.Module, number: int | None) -> None:
    """Have the BatchNorms of `detector` move by `norm_momentum(number)`."""
    for norm in _norms(detector):
        norm.momentum = norm_momentum(number)


@torch.inference_mode()
def predict_logits(
    detector: PatchDetector,
    batches: Iterable[Tensor],
    preprocessing: Preprocessing,
    compute: Compute,
) -> NDArray[np.float64]:
    """Logits (N,) of uint8 batches (B, 3, H, W), in order."""
    detector.eval()
    parts = []
    for batch in batches:
        with compute.autocast():
            logits = detector(normalise(batch, preprocessing, compute.device))
        parts.append(logits.squeeze(1).float().cpu().numpy())
    return np.concatenate([np.empty(0), *parts])


@dataclass(slots=True)
class RunState:
    """Everything a run needs to go on: plain values and tensors, saved whole after every epoch.

    `seconds` are those of all calls so far; `recipe` is the part of it that decides what an epoch computes.
    """

    key: str
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    plateau: Plateau
    average: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    steps: int = 0
    best: tuple[float, float, float] | None = None
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_logits: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state so that a kill at any moment leaves this one or the one before."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        write_atomically(path, to_bytes({**plain, "plateau": asdict(self.plateau)}))

    @classmethod
    def load(cls, path: Path) -> "RunState":
        """The state at `path`.

        Raises:
            CheckpointError: if it is damaged or of another version.
        """
        found = from_bytes(path.read_bytes(), path.name)
        try:
            return cls(**{**found, "plateau": Plateau(**found["plateau"])})
        except (TypeError, KeyError):
            raise CheckpointError(
                f"{path.name} is not the state of a run; expected what an interrupted run left; "
                "delete it to start again"
            ) from None


@dataclass(frozen=True, slots=True)
class Run:
    """One training run over epochs: `steps_of(step, epoch, done)` trains, `validate(detector)` scores val.

    `total` is the images (or steps) of an epoch, as progress is counted; `validation` about what part of an
    epoch's time a validation takes, until one was timed; `begun` is when the minutes began.
    """

    detector: PatchDetector
    recipe: TrainPolicy
    preprocessing: Preprocessing
    compute: Compute
    key: str
    state_path: Path
    steps_of: Callable[[Step, int, int], Steps]
    total: int
    validate: Callable[[PatchDetector], NDArray[np.float64]]
    val_labels: NDArray[np.int64]
    on_epoch: Callable[[RunState, EpochReport], None]
    progress: Progress
    clock: Clock
    begun: float
    validation: float = 0.0


@dataclass(slots=True)
class Course:
    """What a run moves: optimizer, running mean, and how many minutes the last validation took.

    `replay` does the steps where a GPU can be told to repeat them; `before` are the seconds of earlier calls.
    """

    optimizer: torch.optim.Optimizer
    average: Average | None
    replay: Replay | None
    validation: float = 0.0
    before: float = 0.0

    def judged(self, run: Run) -> PatchDetector:
        """What is validated and kept: the running mean if there is one."""
        return run.detector if self.average is None else self.average.detector


def fit(run: Run) -> tuple[RunState, str]:
    """Train until the schedule, the epochs or the minutes end; the state, and why it stopped.

    With `max_minutes`, the epoch cut short still counts if nothing better is there, but is not kept
    in the saved state: a later run repeats it whole and stays reproducible. The minutes are per
    call, from `run.begun`, and the last validation is inside them.

    Raises:
        InputError: if the state in the folder belongs to another run.
    """
    course = _course(run)
    state = _start(run, course)
    stopped = _until_stopped(run, state, course)
    state.seconds = _seconds(run, course)
    return state, stopped


def _until_stopped(run: Run, state: RunState, course: Course) -> str:
    while (reason := _stop_reason(run.recipe, state)) is None:
        report = _one_epoch(run, state, course)
        if not report.partial:
            state.seconds = _seconds(run, course)
            state.save(run.state_path)
        run.on_epoch(state, report)
        if report.partial or _out_of_time(run, course):
            _note_seconds(run, course)
            return f"{OUT_OF_TIME} {run.recipe.max_minutes:g} reached"
    return reason


def _seconds(run: Run, course: Course) -> float:
    """Of this call and all before it."""
    return course.before + run.clock() - run.begun


def _note_seconds(run: Run, course: Course) -> None:
    """Into the saved state, of which an epoch that was cut short is no part."""
    if run.state_path.exists():
        saved = RunState.load(run.state_path)
        saved.seconds = _seconds(run, course)
        saved.save(run.state_path)


def make_optimizer(detector: nn.Module, compute: Compute, rate: float) -> torch.optim.Optimizer:
    """The paper's Adam, as fast as the device has it."""
    # one kernel for all weights instead of one for each: a tenth of a step of ladeda9 at 64 x 64
    fused = compute.device.type in ("cpu", "cuda")
    return torch.optim.Adam(
        detector.parameters(), lr=rate, betas=BETAS, fused=fused, capturable=compute.replays
    )


def _course(run: Run) -> Course:
    optimizer = make_optimizer(run.detector, run.compute, run.recipe.learning_rate)
    decay, compute = run.recipe.average, run.compute
    return Course(
        optimizer,
        Average(run.detector, decay) if decay else None,
        Replay(compute.device, optimizer) if compute.replays else None,
    )


def _out_of_time(run: Run, course: Course) -> bool:
    """Whether there is no time left but for one more validation."""
    if run.recipe.max_minutes is None:
        return False
    gone = (run.clock() - run.begun) / 60
    return gone + course.validation >= run.recipe.max_minutes


def _start(run: Run, course: Course) -> RunState:
    if not run.state_path.exists():
        plateau = Plateau(run.recipe.learning_rate)
        return RunState(
            run.key,
            _copy(run.detector),
            course.optimizer.state_dict(),
            plateau,
            recipe=recipe_key(run.recipe),
        )
    state = RunState.load(run.state_path)
    if state.key != run.key:
        raise OtherRunError(str(run.state_path.parent), _difference(state, run.recipe))
    logger.info("going on after epoch %d", state.epoch)
    course.before = state.seconds
    run.detector.load_state_dict(state.weights)
    course.optimizer.load_state_dict(state.optimizer)
    for group in course.optimizer.param_groups:  # it may have run on another device
        group["capturable"] = run.compute.replays
    if course.average is not None:
        course.average.detector.load_state_dict(state.average)
    return state


def saved_epochs(path: Path, recipe: TrainPolicy) -> int:
    """How many epochs the state at `path` holds, 0 if there is none: asked before work is done for nothing.

    Raises:
        CheckpointError: if it is damaged.
        OtherRunError: if it is of another recipe.
    """
    if not path.exists():
        return 0
    state = RunState.load(path)
    if state.recipe not in ({}, recipe_key(recipe)):
        raise OtherRunError(str(path.parent), _difference(state, recipe))
    return state.epoch


def _difference(state: RunState, recipe: TrainPolicy) -> str:
    """In what the run of `state` is another, as far as it says."""
    if not state.recipe:
        return "other data or recipe, or of an earlier version"
    changed = [
        f"train.{name} was {before!r} and is {now!r}"
        for name, before, now in _changes(state.recipe, recipe_key(recipe))
    ]
    return ", ".join(changed) or "the same recipe, on other data or from another teacher"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each field of a recipe that changed, those of its parts by their whole names."""
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from ((f"{name}.{part}", a, b) for part, a, b in _changes(old, new))
        elif old != new:
            yield name, old, new


def _stop_reason(recipe: TrainPolicy, state: RunState) -> str | None:
    # the tolerance keeps 2e-4 -> 2e-5 -> 2e-6 from depending on rounding
    if state.plateau.learning_rate < recipe.min_learning_rate * (1 - 1e-9):
        return f"learning rate fell below {recipe.min_learning_rate:g}"
    if state.epoch >= recipe.epochs:
        return f"{recipe.epochs} epochs done"
    return None


def _one_epoch(run: Run, state: RunState, course: Course) -> EpochReport:
    """Train and validate epoch `state.epoch`, and move `state` past it."""
    rate = state.plateau.learning_rate
    for group in course.optimizer.param_groups:
        group["lr"] = rate
    begun, epoch = run.clock(), state.epoch
    done: Counter[str] = Counter()
    loss, seen, partial = _train_pass(run, state, course, done)
    if partial and not state.steps:
        raise InputError(
            f"the {run.recipe.max_minutes:g} minutes were over before the first step; expected time for "
            "decoding, a teacher, some steps and a validation; raise --max-minutes: what is on disk is kept"
        )
    trained = run.clock() - begun
    logits, val, val_loss = _validated(run, course, epoch)
    better = _keep_if_best(course.judged(run), state, logits, val, val_loss)
    seconds = run.clock() - begun
    course.validation = (seconds - trained) / 60
    report = EpochReport(
        epoch + 1, loss, val_loss, val, rate, better, partial, seconds,
        seen / trained if trained > 0 else 0.0, dict(sorted(done.items())),
    )  # fmt: skip
    _move(run, state, course, report)
    return report


def _validated(
    run: Run, course: Course, epoch: int
) -> tuple[NDArray[np.float64], dict[str, float | int | None], float]:
    """Validation logits, their metrics and their loss."""
    logits = run.validate(course.judged(run))
    if not np.isfinite(logits).all():
        raise _diverged("a validation logit", epoch)
    return logits, summary(logits, run.val_labels), _cross_entropy(logits, run.val_labels)


def _move(run: Run, state: RunState, course: Course, report: EpochReport) -> None:
    """Take an epoch that is over into the state."""
    state.epoch += 1
    state.plateau = state.plateau.step(float(report.val["acc"] or 0.0), run.recipe.patience)
    state.weights, state.optimizer = _copy(run.detector), course.optimizer.state_dict()
    if course.average is not None:
        state.average = _copy(course.average.detector)
    state.curve.append(report.to_dict())
    logger.info(
        "epoch %d: loss %s, val loss %.4f, val acc %.4f, ap %.4f, lr %g, %.1f images/s",
        report.epoch, show_loss(report.loss), report.val_loss, report.val["acc"], report.val["ap"],
        report.learning_rate, report.images_per_s,
    )  # fmt: skip


def _train_pass(
    run: Run, state: RunState, course: Course, done: Counter[str]
) -> tuple[float | None, int, bool]:
    """Mean loss, images seen, and whether time ran out before the pass was over."""
    losses = Losses(state.epoch, LAG if run.compute.replays else 0)
    begun, timed = run.clock(), course.validation > 0

    def check_time() -> None:
        if not timed and losses.seen:
            epoch = (run.clock() - begun) / losses.seen * run.total
            course.validation = run.validation * epoch / 60
        if _out_of_time(run, course):
            raise OutOfTime

    step = Step(
        run.detector, course.optimizer, run.preprocessing, run.compute, run.recipe.norm_warmup,
        check_time, course.average, done,
        Statistics(run.detector) if run.compute.compiled or run.compute.replays else None,
        course.replay,
    )  # fmt: skip
    if step.statistics is None:
        set_norm_momentum(run.detector, state.steps if run.recipe.norm_warmup else None)
    run.progress.start(_title(run, state), run.total)
    try:
        for loss, count in run.steps_of(step, state.epoch, state.steps):
            losses.add(loss, count)
            state.steps += 1
            run.progress.advance(count)
    except OutOfTime:
        return losses.mean(), losses.seen, True
    return losses.mean(), losses.seen, False


class Losses:
    """The mean loss of a pass, whose last `lag` steps may still be at work."""

    def __init__(self, epoch: int, lag: int) -> None:
        self.seen = 0
        self._epoch, self._lag = epoch, lag
        self._total = 0.0
        self._waiting: deque[tuple[Tensor, int]] = deque()

    def add(self, loss: Tensor, count: int) -> None:
        """One more step.

        Raises:
            InputError: if the loss of a step is no longer a finite number.
        """
        self.seen += count
        self._waiting.append((loss, count))
        self._read(self._lag)

    def mean(self) -> float | None:
        """Of all steps, by their counts; None if there was none.

        Raises:
            InputError: as `add`.
        """
        self._read(0)
        return self._total / self.seen if self.seen else None

    def _read(self, left: int) -> None:
        while len(self._waiting) > left:
            loss, count = self._waiting.popleft()
            value = loss.item()
            if not np.isfinite(value):
                raise _diverged("the loss", self._epoch)
            self._total += value * count


def show_loss(loss: float | None) -> str:
    """A loss for people; a dash where no step was done."""
    return "-" if loss is None else f"{loss:.4f}"


def _title(run: Run, state: RunState) -> str:
    """What progress is told: the epoch, and at what of the minutes it begins."""
    title = f"epoch {state.epoch + 1}"
    if run.recipe.max_minutes is None:
        return title
    spent = (run.clock() - run.begun) / 60
    return f"{title} (from minute {spent:.1f} of {run.recipe.max_minutes:g})"


def _diverged(what: str, epoch: int) -> InputError:
    return InputError(
        f"{what} is no longer a finite number in epoch {epoch + 1}; expected training to converge; "
        "lower train.learning_rate or set train.precision to float32"
    )


def _keep_if_best(
    judged: PatchDetector,
    state: RunState,
    logits: NDArray[np.float64],
    val: dict[str, float | int | None],
    val_loss: float,
) -> bool:
    rank = (float(val["ap"] or 0.0), float(val["acc"] or 0.0), -val_loss)
    if state.best is not None and rank <= tuple(state.best):
        return False
    state.best, state.best_epoch = rank, state.epoch + 1
    state.best_weights, state.best_logits = _copy(judged), logits.tolist()
    return True


def _cross_entropy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def _copy(detector: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in detector.state_dict().items()}
