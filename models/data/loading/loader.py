"""The training loader: batches prefetched in the background, with a position that checkpoints keep."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from behavior.errors import UserError
from behavior.sampling.sampler import Sampler
from models.data.baskets import Draw
from models.data.batch import PackedBatch
from models.data.collate import Collator, LossOn, QueryTime
from models.data.copies import Copies
from models.data.loading.config import LoaderConfig
from models.data.loading.order import EpochOrder
from models.data.loading.planner import EpochPlanner, EpochPosition, Share, Step
from models.data.loading.saved import position_of, saved_position
from models.data.loading.shuffle_blocks import ShuffleBlockReader, count_samples
from models.data.loading.source import SequenceSource
from models.data.loading.step_rule import step_rule
from models.data.loading.target_counts import count_targets
from models.data.sequences import BoolArray, Int64Array


class TrainLoader:
    """Batches of training samples, shuffled anew in every epoch.

    A sample is a window of a training sequence: its input events, and the event that follows them. Iterating
    continues from the loader's position to the end of its epoch and then moves it to the start of the next.
    The position is the epoch and the samples already handed out: a loader that loads the state of another
    visits exactly what that one had left, whatever its threads, its batch size or the number of processes.
    With equal settings its batches are the same, too.

    With data parallelism each process has a loader with its own `rank`. Together they visit every sample once
    and have equally many batches; in the last step of an epoch there may be fewer samples than processes, and
    the batches of some of them are empty.

    Args:
        source: the sequences, and the columns that batches are to have.
        config: how samples are cut, shuffled and read.
        max_length: most input events of a sample.
        batch_sequences: global batch size in samples.
        batch_tokens: global batch size in input events, instead of a number of samples: each process gets at
            most its share of this token budget, and hardly less.
        behaviors: names of the behaviors, which sampling quotas refer to.
        time: whether a query knows the time of the event that it predicts.
        loss_on: which events carry loss: all, or those with a target behavior.
        seed: of shuffling and sampling.
        epochs: how many there will be, so that nothing is prefetched after the last; None: no end.
        rank: of this process, from 0.
        num_replicas: data-parallel processes (the world size).
        pin: whether batches are made in page-locked (pinned) memory.

    Raises:
        UserError: no sequence has two training events, the token budget does not hold a sample, or there are
            more processes than samples in a batch.
    """

    def __init__(
        self,
        source: SequenceSource,
        config: LoaderConfig | None = None,
        *,
        max_length: int,
        batch_sequences: int = 128,
        batch_tokens: int | None = None,
        behaviors: tuple[str, ...] = (),
        time: QueryTime = "known",
        loss_on: LossOn = "all",
        seed: int = 0,
        epochs: int | None = None,
        rank: int = 0,
        num_replicas: int = 1,
        pin: bool = False,
    ) -> None:
        self.source, self.config = source, config or LoaderConfig()
        self.max_length = max_length
        self.batch_sequences, self.batch_tokens = batch_sequences, batch_tokens
        self.time, self.loss_on, self.pin = time, loss_on, pin
        self.seed, self.epochs, self.rank, self.num_replicas = seed, epochs, rank, num_replicas
        self.rule = step_rule(
            self.config,
            max_length=max_length,
            batch_sequences=batch_sequences,
            batch_tokens=batch_tokens,
            num_replicas=num_replicas,
        )
        self.sampler = Sampler(self.config.sampling, max_length=max_length, behaviors=behaviors, seed=seed)
        self._reader = ShuffleBlockReader(source, self.sampler, threads=self.config.threads)
        counted = count_samples(self._reader)
        self._samples = counted.samples
        self.samples = int(counted.samples.sum())
        """Samples of an epoch."""
        self.skipped = counted.skipped
        """Sequences with fewer than 2 training events: they give no sample."""
        self.tokens_an_epoch = counted.inputs
        """Expected input events of an epoch; an upper bound where the sampling has quotas."""
        self.distinct_events = counted.events
        """Different events that all epochs together may show, the targets included."""
        if self.samples == 0:
            raise UserError(
                "no sequence has two training events: there is nothing to learn from",
                fix="check the split, or train on more of the data (data.fraction)",
            )
        self.waited = 0.0
        """Seconds that iterating has waited for batches."""
        device = (torch.cuda.set_device, (torch.cuda.current_device(),)) if pin else ()
        # Each thread has a device of its own, by default the first: pinned memory would take some of it.
        self._maker = ThreadPoolExecutor(1, "lrm-batches", *device) if self.config.threads else None
        self._ahead: deque[Future[tuple[PackedBatch | None, EpochPosition]]] = deque()
        self._steps: int | None = None
        self._go_to(EpochPosition())

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self.position.epoch

    @property
    def seen(self) -> int:
        """Samples of the epoch that were handed out, to all processes together."""
        return self.position.seen

    @property
    def at_end(self) -> bool:
        """Whether the last batch of the epoch has been handed out."""
        return self.seen == self.samples

    def __len__(self) -> int:
        """Batches of an epoch; with a token budget as many as the last epoch had, at first an estimate."""
        if self.batch_tokens is None:
            return -(-self.samples // self.batch_sequences)
        return self._steps or max(1, round(self.tokens_an_epoch / self.batch_tokens))

    @property
    def batches_left(self) -> int:
        """Batches of the current epoch not handed out yet; see `__len__`."""
        left = self.samples - self.seen
        if self.batch_tokens is None:
            return -(-left // self.batch_sequences)
        return -(-left * len(self) // self.samples)

    def __iter__(self) -> Iterator[PackedBatch]:
        steps, whole = 0, self.seen == 0
        while True:
            since = time.perf_counter()
            batch, self.position = self._next()
            self.waited += time.perf_counter() - since
            if batch is None:
                self._steps = steps if whole else self._steps
                return
            steps += 1
            yield batch

    def target_counts(self, behaviors: BoolArray | None = None) -> Int64Array:
        """[item ids] how often each item is a target that carries loss, in the samples of the first epoch.

        Goes through all sequences; the same on every process.

        Args:
            behaviors: [behavior ids] which of those that `loss_on` leaves carry loss; None: all.
        """
        return count_targets(self._reader, self.loss_on, behaviors)

    def state_dict(self) -> dict[str, Any]:
        """The position, in plain values: the epoch, samples taken from its order, and those that wait."""
        return saved_position(self.position, self._fingerprint())

    def load_state_dict(self, state: dict[str, Any], *, where: str | None = None) -> None:
        """Take the position of the loader that gave `state`.

        Args:
            state: as `state_dict` gives it.
            where: the file that it comes from, for errors.

        Raises:
            UserError: that loader visits samples in another order: its data, seed, sampling or
                `shuffle_events` differ; or the state is damaged.
        """
        position, order = position_of(state, self.samples, where)
        if order != self._fingerprint():
            raise UserError(
                "the state is of a loader that visits other samples, or in another order",
                where=where,
                fix="use the data, seed, sampling and shuffle_events that it was made with",
            )
        self._go_to(position)

    def start_epoch(self, epoch: int) -> None:
        """Stand at the start of an epoch."""
        self._go_to(EpochPosition(epoch))

    def close(self) -> None:
        """Stop the background threads; the loader cannot be used any more."""
        self._reader.close()
        if self._maker is not None:
            self._maker.shutdown(wait=False, cancel_futures=True)

    def _go_to(self, position: EpochPosition) -> None:
        for future in self._ahead:
            if not future.cancel():
                future.exception()  # waits for the one that is being made
        self._ahead.clear()
        self._reader.forget()
        self.position = self._made = position
        self._planner: EpochPlanner | None = None

    def _next(self) -> tuple[PackedBatch | None, EpochPosition]:
        try:
            if self._maker is None:
                return self._make()
            while len(self._ahead) <= self.config.prefetch:
                self._ahead.append(self._maker.submit(self._make))
            made = self._ahead[0].result()
        except BaseException:
            # Whatever was made or half made beyond the last batch handed out is made again.
            self._go_to(self.position)
            raise
        self._ahead.popleft()
        return made

    def _make(self) -> tuple[PackedBatch | None, EpochPosition]:
        """The next batch, or None at the end of an epoch, and the position after it."""
        epoch = self._made.epoch
        if self._is_over(epoch):
            return None, self._made
        if self._planner is None:
            self._planner = EpochPlanner(
                self._order(epoch),
                None if self._is_over(epoch + 1) else self._order(epoch + 1),
                reader=self._reader,
                rule=self.rule,
                rank=self.rank,
                position=self._made,
            )
        step = self._planner.next()
        if step is None:
            self._planner, self._made = None, EpochPosition(epoch + 1)
            return None, self._made
        self._made = step.after
        return self._collate(step), step.after

    def _collate(self, step: Step) -> PackedBatch:
        copies = [self._copies(share) for share in step.shares]
        lengths = [
            share.lengths if repeated is None else repeated.lengths
            for share, repeated in zip(step.shares, copies, strict=True)
        ]
        collator = Collator(
            self.source.columns,
            np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64),
            time=self.time,
            loss_on=self.loss_on,
            has_time=self.source.about.has_time,
            pin=self.pin,
            draw=Draw(self.seed, step.after.epoch),
        )
        for share, repeated in zip(step.shares, copies, strict=True):
            data, units = share.block.data, share.block.units.take(share.numbers)
            inputs = share.lengths if repeated is None else repeated.inputs
            event = self.sampler.choose(units, inputs, data.behavior, step.after.epoch)
            collator.add(data, units.sequence, event, units.target, repeated)
        return collator.finish()

    def _copies(self, share: Share) -> Copies | None:
        rule, copies = self.sampler.repeat, share.block.copies
        if rule is None or copies is None:
            return None
        count = copies[share.numbers]
        return Copies(share.lengths // count, count, rule.gap, rule.apart)

    def _order(self, epoch: int) -> EpochOrder:
        return EpochOrder(
            self._samples,
            np.asarray(self.source.events),
            shuffle_events=self.config.shuffle_events,
            seed=self.seed,
            epoch=epoch,
        )

    def _is_over(self, epoch: int) -> bool:
        return self.epochs is not None and epoch >= self.epochs

    def _fingerprint(self) -> str:
        """A digest of all that decides which samples there are, and their order."""
        sampling = self.config.sampling
        # Checkpoints from before samples could be repeated go on where they are not.
        settings = sampling.model_dump_json(exclude={"repeat"} if sampling.repeat is None else None)
        source = self.source
        # Parts are shuffled whole: the same sequences in other parts come in another order.
        parts = " ".join(map(str, source.events))
        decisive = (
            f"{source.digest} {parts} {self.seed} {self.config.shuffle_events} {self.max_length} {settings}"
        )
        return hashlib.sha256(decisive.encode()).hexdigest()[:16]
