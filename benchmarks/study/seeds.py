"""Several trainings at once: models of one architecture, each on frames of its own, as one vmapped program.

For studies over seeds and training sets, where compiling and dispatching one small training after the other would
take longer than the arithmetic. Every member sees its own frames, initial parameters and order of batches; the loss,
the optimiser and the energy are those of the ordinary loop.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmnn.config.reading import Config
from gmnn.data.batches import select
from gmnn.model.network import Constants, constants, inverse_softplus
from gmnn.model.potential import Params, Potential
from gmnn.reference import Reference
from gmnn.system import Labels, System
from gmnn.training.gradient import value_and_gradient, with_fast_functions
from gmnn.training.optimizer import Moving, advance, make_optimizer
from gmnn.training.scales import FEATURE_FRAMES, feature_scales, largest_norms

WARM_UP = 0.05  # of all steps; cosine decay to zero over the rest


class Member(NamedTuple):
    """One model: what its data says, which frames of the pool it trains on, its seed."""

    reference: Reference  # without scales of moments and features, which are measured here
    frames: np.ndarray  # [n] indices into the pool
    seed: int


class SeedTrainer:
    """Compiled programs for one architecture; `train` may be called for many sets of members of one number.

    n_steps takes the place of the configuration's epochs and warm-up. The pool is every frame that any member may
    train on.
    """

    def __init__(self, config: Config, reference: Reference, pool: System, n_steps: int) -> None:
        """`reference`: of any member; all have its elements and its screening."""
        self.config, self.pool, self.n_steps = config, pool, n_steps
        schedule = config.train.schedule.model_copy(update={"warmup_epochs": WARM_UP})
        self.train_config = config.train.model_copy(update={"epochs": 1, "schedule": schedule})
        self.template = Potential(config.model, reference)
        self._init = jax.jit(jax.vmap(self.template.init))
        self._norms = jax.jit(jax.vmap(self._over_frames(Potential.moment_norms)))
        self._features = jax.jit(jax.vmap(self._over_frames(Potential.features)))
        start = jax.eval_shape(self.template.init, 0)
        self.optimizer = make_optimizer(self.train_config, start, n_steps)
        self._run = jax.jit(jax.vmap(self._train_one, (0, 0, 0, None, 0)))

    def _with(self, constants: Constants) -> Potential:
        return replace(self.template, constants=constants)

    def _over_frames(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate(constants: Constants, params: Params, systems: System) -> Any:
            return jax.vmap(partial(method, self._with(constants), params))(systems)

        return evaluate

    def train(self, members: list[Member], labels: Labels) -> tuple[list[Potential], np.ndarray]:
        """The averaged potentials after n_steps, and the mean loss of every 50 steps, [members, n_steps / 50].

        `labels`: fields [members, frames of the pool, ...]; the atomic references of each member subtracted.
        """
        params = dict(self._init(jnp.array([m.seed for m in members])))
        references = [m.reference for m in members]
        scale = np.stack([inverse_softplus(np.array(r.scale)) for r in references])
        params["scale_shift"] = {
            "scale": jnp.asarray(scale, "float32"),
            "shift": jnp.asarray([r.shift for r in references], "float32"),
        }
        references = self._measured(members, references, params)
        stacked = self._constants(references)
        orders = jnp.asarray(np.stack([self._order(m) for m in members]))
        average, losses = self._run(stacked, params, orders, self.pool, labels)
        average = jax.tree.map(np.asarray, average)
        config = self.config.model
        potentials = [
            Potential(config, r, jax.tree.map(lambda leaf, k=k: leaf[k], average)) for k, r in enumerate(references)
        ]
        n = self.n_steps // 50
        return potentials, np.asarray(losses)[:, : 50 * n].reshape(len(members), n, 50).mean(axis=2)

    def _train_one(
        self, constants: Constants, params: Params, order: jax.Array, pool: System, labels: Labels
    ) -> tuple[Params, jax.Array]:
        train, optimizer = self.train_config, self.optimizer
        gradient = partial(value_and_gradient, with_fast_functions(self._with(constants)), train.loss)

        def one(moving: Moving, chosen: jax.Array) -> tuple[Moving, jax.Array]:
            value, slope = gradient(moving.params, select((pool, labels), chosen), moving.step / self.n_steps)
            return advance(optimizer, train.averaging, self.n_steps, moving, slope), value

        start = Moving(params, optimizer.init(params), params, jnp.zeros((), jnp.int32))
        moving, losses = jax.lax.scan(one, start, order)
        return moving.average, losses

    def _order(self, member: Member) -> np.ndarray:
        """Frames of every step: one random permutation after the other.  [n_steps, batch]"""
        rng = np.random.default_rng(member.seed)
        batch = self.config.train.batch_size
        n_epochs = -(-self.n_steps * batch // len(member.frames))
        order = np.concatenate([rng.permutation(member.frames) for _ in range(n_epochs)])
        return order[: self.n_steps * batch].reshape(self.n_steps, batch)

    def _measured(self, members: list[Member], references: list[Reference], params: Params) -> list[Reference]:
        """References with the scales of the moments and of the features of each member's frames."""
        frames = jnp.asarray(np.stack([np.resize(m.frames, FEATURE_FRAMES) for m in members]))
        systems: Any = jax.vmap(lambda chosen: select(self.pool, chosen))(frames)
        numbers = np.asarray(systems.numbers)
        elements = self.template.reference.elements
        n = len(elements)
        if self.config.model.core.bounded_moments:
            unbounded = self._constants([replace(r, moment_scale=(1.0,) * n) for r in references])
            norms = np.asarray(self._norms(unbounded, params, systems), float)
            references = [
                replace(r, moment_scale=largest_norms(norms[k], numbers[k], elements)) for k, r in enumerate(references)
            ]
        n_features = jax.eval_shape(self._features, self._constants(references), params, systems).shape[-1]
        unscaled = [replace(r, feature_scale=(1.0,) * n_features) for r in references]
        features = np.asarray(self._features(self._constants(unscaled), params, systems), float)
        return [replace(r, feature_scale=feature_scales(features[k], numbers[k])) for k, r in enumerate(references)]

    def _constants(self, references: list[Reference]) -> Constants:
        each = [constants(self.config.model, r) for r in references]
        return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), "float32"), *each)
