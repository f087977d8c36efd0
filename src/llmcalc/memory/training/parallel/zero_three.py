"""ZeRO-3: every tensor is cut among all ranks, and made whole while its module runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, ceil_div, is_array, larger, smaller
from llmcalc.memory.training.allocator import Pool
from llmcalc.memory.training.model_states import States
from llmcalc.memory.training.parallel.prefetch import Fetches, sums
from llmcalc.memory.training.parallel.sharding import KINDS, Part, combined
from llmcalc.memory.training.parallel.zero import FROZEN_GROUP, Zero, most, place_of
from llmcalc.memory.training.parallel.zero_host import pinned


class ZeroThree(Zero):
    """Stage 3, with buckets, fetches ahead, tensors that stay whole, and parts on the host or on NVMe."""

    shared = KINDS
    persistent = True
    takes_gradients = True

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Play through what is fetched when."""
        super().begin(question, model, stage, parts)
        own, asked = self.settings, question.asked
        element = int(own.gradient_element or self.element)
        self.accumulated = element
        trained = self.tensors.trained
        # Each tensor is filled up so that all parts of it are equal.
        self.padding = (
            sum(-(-size // self.ranks) for _, size in trained) - sum(s for _, s in trained) / self.ranks
        )
        fetches = self.ranks > 1 or own.params.away  # else every tensor is whole where it lies
        self.small = self.tensors.whole(own.persistence, own.model_persistence) if fetches else 0
        outside = asked.loss == "fused" and asked.implementation in ("hf", "liger")
        again = asked.recompute != "none"
        self.fetched: dict[Any, int] = {}
        self.events: list[tuple[object, int]] = []
        if fetches:
            found = Fetches(self.tensors.steps(again, outside), own, self.ranks == 1 or own.sequential)
            self.fetched, self.events = found.most, found.events
        self.copies = sums([*reversed(trained)], own.reduce_bucket, False)
        if own.contiguous:
            self.standing["reduce bucket"] = own.reduce_bucket * self.communicated
        if own.secondary > 1:
            self.standing["second copy of the weights (hpZ)"] = ceil_div(self._weights(), own.secondary)

    def _weights(self) -> Quantity:
        """Weights of this class of ranks before they are cut. [B]"""
        return add_up(self.whole.weights.values())

    def _per_element(self, elements: Quantity) -> Quantity:
        """Bytes of so many elements of the weights, packed ones among them. [B]"""
        total = self.whole.total
        if not int(most(total)):
            return 0
        weights = self._weights()
        if is_array(weights) or is_array(total):  # whose product would pass 64 bits
            import numpy as np

            pairs = np.broadcast(np.asarray(weights), np.asarray(total))
            return np.array([-(-int(elements) * int(w) // int(t)) for w, t in pairs]).reshape(pairs.shape)
        return ceil_div(elements * weights, total)

    def share(self, parts: Sequence[Part]) -> States:
        """A part of every tensor, and small tensors whole besides."""
        own = self.settings
        cut = [(states, self.ranks) for states, _ in parts]
        made = combined(cut, KINDS)
        pad = int(self.padding)
        if own.quantized_frozen:
            for label in [label for label in made.weights if label.endswith("frozen")]:
                bytes_ = made.weights[label]
                made.weights[label] = bytes_ // 2 + ceil_div(4 * (bytes_ // 2), FROZEN_GROUP)
        if self.small:
            made.weigh("small tensors, whole on every GPU", self._per_element(self.small))
        if pad and int(most(self.whole.trained)):
            made.weigh("filled up to equal parts", pad * self.element)
            made.master = made.master + (4 * pad if self.masters else 0)
            for name, bytes_ in made.optimizer.items():
                made.optimizer[name] = bytes_ + ceil_div(pad * bytes_, self.part)
        made.gradients = (self.part + pad) * self.accumulated
        self.gradients = made.gradients
        if own.optimizer.away:
            made.gradients = 0
        return made

    def at(self, moment: Any) -> tuple[Quantity, Quantity, Quantity]:
        """What is whole; gradients that have not yet left, and the copy in which others are summed."""
        where = place_of(moment)
        gathered = self._per_element(self.fetched.get(where, 0))
        more = moment.gradients
        if self.ranks > 1 and self.settings.reduce_scatter:
            copied = self.copies.get(where, 0)
            more = more + copied * self.communicated
        if not self.settings.contiguous and moment.phase == "backward":
            more = more + self.settings.reduce_bucket * self.communicated
        return self.gradients, gathered, more

    def left(self, held: Quantity) -> Quantity:
        """A rank's part, in a buffer of its own."""
        return held

    def step(self, states: States) -> Quantity:
        """Group by group: gradients end to end, then in fp32; then the optimizer."""
        if self.away:
            return 0
        group = smaller(self.part, self.settings.sub_group + -(-self.largest // self.ranks))
        element = 4 if self.masters else self.element
        temporaries = self._temporaries(states.trained_bytes, states)
        at_once = self._temporaries(group * element, states)
        flat = self.accumulated * group
        wide = 4 * group if self.accumulated < 4 else 0
        after = 4 * group + at_once
        return larger(flat + wide, after) - temporaries

    def settle(self, layout: Any, states: States) -> None:
        """Each tensor is whole while it is made; offloaded weights leave the small ones here."""
        self.states = states
        biggest = max(self.tensors.stored.values(), default=0)
        one = self._per_element(biggest)
        if self.settings.loads_whole:  # each tensor's part is made beside it, and then the tensor goes
            held = add_up(states.weights.values()) if not self.settings.params.away else 0
            one = larger(self._weights() + ceil_div(one, self.ranks) - held, 0)
        layout.load = larger(layout.load, one)
        if self.settings.params.away:
            layout.resident = self._per_element(self.small)

    def at_load(self, pool: Any) -> None:
        """Parts of all, put together anew after loading, so that nothing else is left."""
        away = self.settings.params.away
        weights = self._per_element(self.small) if away else add_up(self.states.weights.values())
        pool.take("weights", int(most(weights)))
        if not self.away:
            pool.take("masters", int(most(self.states.master)))
        pool.take("gradients", int(most(self.states.gradients)))
        for name, size in self.standing.items():
            pool.take(name, int(most(size)))
        # While hooks are set each tensor is gathered once, on the main stream.
        pool.take("gathered once", int(most(self._per_element(max(self.tensors.stored.values(), default=0)))))
        pool.drop("gathered once")
        if not self.settings.overlaps:  # what is gathered comes from the same stream
            pool.take("gathered", int(most(self._per_element(max(self.fetched.values(), default=0)))))

    def at_gradients(self, pool: Any) -> None:
        """Nothing more: the bucket is there."""

    def at_end(self, pool: Any) -> None:
        """The bucket stays; without a stream of its own the sum's copy comes from here."""
        if not self.settings.overlaps:
            pool.take("sum", max(self.copies.values(), default=0) * self.communicated)
            pool.drop("sum")

    def at_step(self, pool: Any, first: bool) -> None:
        """Group by group: gradients end to end, in fp32, and the optimizer."""
        if self.away:
            return
        part = int(most(self.part))
        group = min(part, self.settings.sub_group + -(-self.largest // self.ranks))
        pool.take("flat", self.accumulated * group)
        pool.take("wide", 4 * group if self.accumulated < 4 else 0)
        pool.drop("flat")
        self._update(pool, first, group)
        pool.drop("wide")

    def beside(self) -> int:
        """Pools of the streams on which weights are gathered and gradients are summed."""
        if not self.settings.overlaps:
            return 0
        total, pool = int(most(self._per_element(1_000_000))), Pool()
        for _ in range(2):
            for name, elements in self.events:
                if elements:
                    pool.take(name, elements * total // 1_000_000)
                else:
                    pool.drop(name)
            for name in list(pool.named):
                pool.drop(name)
        return pool.reserved + max(self.copies.values(), default=0) * self.communicated

    def host(self, states: States) -> dict[str, Quantity]:
        """Masters, gradients, states of the optimizer, weights: pinned where asked; or buffers to NVMe."""
        own, held = self.settings, {}
        sizes: list[Quantity] = []
        group = smaller(self.part, own.sub_group)
        if own.optimizer.away:
            share = own.optimizer.ratio
            states_ = states.master + add_up(states.optimizer.values())
            if own.optimizer.device == "nvme":
                held["optimizer on NVMe"] = states_ + 4 * self.part
                held["buffers to NVMe"] = own.optimizer.buffers * 4 * group
                sizes += [4 * group] * own.optimizer.buffers
            else:
                held["optimizer"] = states_ if share == 1 else int(states_ * share)
                held["fp32 gradients"] = 4 * self.part
                sizes += (
                    [4 * group] * max(int(most(self.part)) // int(most(group)), 1) if int(most(group)) else []
                )
            held["gradients"] = self.gradients
            sizes.append(self.gradients)
            if not own.optimizer.pinned:
                sizes = []
        if own.params.away:
            weights = ceil_div(self._weights(), self.ranks)
            if own.params.device == "nvme":
                stay = smaller(weights, self._per_element(own.params.most_on_host))
                held["weights"] = stay
                held["weights on NVMe"] = weights - stay
                held["weights' buffers to NVMe"] = own.params.buffers * own.params.buffer_size * self.element
            else:
                held["weights"] = weights
            if own.params.pinned:
                sizes.append(held["weights"])
        if sizes:
            held["rounding of pinned memory"] = pinned(sizes)
        return held
