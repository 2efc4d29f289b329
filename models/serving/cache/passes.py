"""Forward passes over the last events of windows, all others out of pages.

Made of tensors on the device alone: a CUDA graph of a pass computes any call of its shape.
"""

from __future__ import annotations

from weakref import proxy

import torch
from torch import Tensor, nn

from models.backbones.backbone import Backbone
from models.data.batch import PackedBatch
from models.inputs.embedding import InputEmbedding
from models.layers.context import Past
from models.serving.cache.call import Call, Lengths, Numbers, Shape
from models.serving.cache.events import EventColumns
from models.serving.cache.pages import Pages
from models.serving.cache.parcel import Arrays
from models.serving.cache.past import Growing, reasons_to_gather
from models.serving.cache.ragged import Ints, Spread, in_room, on_device, sequences_of, spread
from models.serving.cache.replays import Replays
from models.serving.cache.scattered import ScatteredPasses
from models.serving.cache.tokens import Chosen
from models.serving.cache.values import Columns


class Passes:
    """What a cache computes; each pass is for all users of a call.

    Args:
        embedding: of the model.
        backbone: of the model.
        events: the columns that are read.
        pages: what is remembered.
        replays: passes of repeated shapes; None: each is computed as it comes.
    """

    def __init__(
        self,
        embedding: InputEmbedding,
        backbone: Backbone,
        events: EventColumns,
        pages: Pages,
        replays: Replays | None = None,
    ) -> None:
        self.embedding, self.backbone, self.pages, self.replays = embedding, backbone, pages, replays
        self.columns = Columns(events, pages)
        self.in_place = True
        """Whether keys and values are read in their pages, where there is a kernel for it."""
        self._layers = layers = backbone.attention_layers
        self._number: dict[nn.Module, int] = {layer: number for number, layer in enumerate(layers)}
        self._limit = layers[0].settings.max_tokens
        self._scattered = ScatteredPasses(embedding, backbone, self.columns, self._number)

    @property
    def device(self) -> torch.device:
        return self.pages.happened.device

    def run(self, call: Call) -> list[Tensor]:
        """What is asked for.

        Returns:
            [users, dim] outputs after the newest events, followed by [users] each of their kept columns where
            these are asked for; of candidates [candidates, dim].
        """
        # No kernel of attention without lengths on the host lets tokens of a candidate see each other.
        of_several = call.shape.candidates > 0 and self.pages.tokens.candidate > 1
        if self.replays is not None and not of_several:
            shape = call.shape.rounded(self.pages.tokens, self._limit)
            # What is recorded does not hold what holds it: memory is free when nobody has the cache any more.
            passes = proxy(self)
            found = self.replays.run(call, shape, lambda arrays: passes.compute(shape, arrays))
            if found is not None:
                return found
        parcel = call.parcel(call.shape)
        buffer = parcel.buffer(self.device)
        parcel.put(buffer, call.arrays)
        return self.compute(call.shape, parcel.views(buffer), call.lengths)

    def compute(self, shape: Shape, arrays: Arrays, lengths: Lengths | None = None) -> list[Tensor]:
        """A pass, of arrays on the device.

        Args:
            shape: room; there may be fewer users, events and tokens.
            arrays: by the names that `Call.arrays` gives.
            lengths: where the host knows them; all room is taken then.
        """
        numbers, table = Numbers(*arrays["numbers"].unbind()), arrays["table"]
        history = numbers.remembered + numbers.given
        events = spread(history + numbers.candidates, shape.events)
        newest = (events.offsets[:-1] + history - 1).clamp(min=0)
        # Candidates all come next, at the place after the newest event; or are what that one asks about.
        next_place = history - int(self.pages.tokens.asks_item)
        place = numbers.base[events.row] + torch.minimum(events.place, next_place[events.row])
        place = place.masked_fill(~events.inside, 0)
        values = self.columns.values(shape, arrays, numbers, events)
        kept = self.columns.keep(shape, table, events, place, history, values)
        values = self.columns.asked(shape, arrays, numbers, events, newest, values)
        whose = arrays["sequence"] - 1
        if self.pages.tokens.scattered:
            window = self._scattered.window(shape, values, events, numbers, table, whose, lengths)
            known, said = self._scattered.known(shape, window)
        else:
            sequences = in_room(events.offsets, lengths and lengths.events, shape.events, shape.most_events)
            batch = self.columns.batch(values, sequences, place, whose)
            known = said = self._known(shape, batch, numbers, table, lengths)
        if kept is not None and self.pages.outputs is not None:
            self.pages.outputs.index_copy_(0, kept, said.to(self.pages.outputs.dtype))
        if shape.candidates:
            each = spread(numbers.candidates, shape.candidates)
            return [known[(newest + 1)[each.row] + each.place.clamp(max=shape.events - 1)]]
        return [known[newest], *(column[newest] for column in values.values() if shape.columns)]

    def windows(self, call: Call, length: Ints) -> tuple[Tensor, PackedBatch]:
        """[events, dim] outputs after all events, of which the newest is asked otherwise; and the events.

        Args:
            call: that asks for the columns of the newest events.
            length: [users] events of each window.
        """
        assert self.pages.outputs is not None
        newest, *values = self.run(call)
        sequences = sequences_of(length, self.device)
        events = spread(on_device(length, self.device), sequences.num_tokens)
        table = torch.from_numpy(call.table).to(self.device, non_blocking=True)
        rows, last = self.pages.rows(table, events.row, events.place), events.offsets[1:] - 1
        every = {
            name: column[rows].index_copy_(0, last, asked)
            for (name, column), asked in zip(self.pages.columns.items(), values, strict=True)
        }
        batch = self.columns.batch(every, sequences, events.place, on_device(call.sequence, self.device))
        outputs = self.pages.outputs[rows].to(newest.dtype)
        if self.pages.tokens.scattered:
            outputs = self._scattered.after_events(batch, outputs)
        return outputs.index_copy_(0, last, newest), batch

    def _known(
        self, shape: Shape, batch: PackedBatch, numbers: Numbers, table: Tensor, lengths: Lengths | None
    ) -> Tensor:
        """[events, dim] what the backbone knows after each event of a batch."""
        pages = self.pages
        base = pages.tokens.of(numbers.base)
        events = numbers.base + numbers.remembered + numbers.given
        history, candidates = pages.tokens.parted(events, numbers.candidates if shape.candidates else None)
        total = history if candidates is None else history + candidates
        new = spread(total - base, shape.fresh)
        x, layout = self.embedding(batch)
        if pages.tokens.front:
            sequences = in_room(new.offsets, lengths and lengths.fresh, shape.fresh, shape.most_fresh)
            skip = pages.tokens.front * (numbers.base > 0)
            chosen = Chosen.of(x, layout, new, skip, sequences, self._left_out(new, base, history, shape))
        else:
            chosen = Chosen.all(x, layout)
        if candidates is not None:
            chosen = chosen.with_candidates(candidates, pages.tokens.candidate)
        growing = Growing(
            pages=pages,
            number=self._number,
            table=table,
            base=base,
            history=history,
            candidates=candidates,
            most_candidates=shape.most_candidates * pages.tokens.candidate,
            new=new,
            kept=shape.kept,
        )
        if shape.kept:
            pages.happened.index_copy_(0, growing.rows, chosen.tokens.timestamp)
        past: Past
        mask = chosen.tokens.mask
        if self.in_place and not reasons_to_gather(self._layers, self.device, x.dtype, mask):
            past = growing.in_place(chosen.tokens, shape.longest, shape.most_fresh)
        else:
            every = spread(total, shape.tokens)
            of_all = in_room(every.offsets, lengths and lengths.all, shape.tokens, shape.longest)
            past = growing.gathered(chosen.tokens, every, of_all)
        outputs: Tensor = self.backbone(chosen.x, chosen.tokens, past)
        return chosen.after_events(outputs)

    def _left_out(self, new: Spread, base: Tensor, history: Tensor, shape: Shape) -> Tensor | None:
        """[new tokens] tokens of candidates before each that are no candidates: what the newest event is,
        again, of which each is what is asked about."""
        tokens = self.pages.tokens
        if not shape.candidates or tokens.candidate == tokens.each:
            return None
        # The first token after the history is what the newest event itself asks about.
        number = base[new.row] + new.place - history[new.row]
        return (tokens.each - tokens.candidate) * number.clamp(min=0)
