"""The `train` section: loss, optimiser, schedule, averaging, stopping."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from gmnn.config.types import STRICT, Count, Flag, NonNegative, Number, Positive, Share, Whole


class EnergyTerm(BaseModel):
    """Error of the energy per atom, counted for every atom."""

    model_config = STRICT

    weight: NonNegative = 3.0
    """Weight of N l(dE / N) in the loss of a frame of N atoms, dE / N in eV."""
    final_weight: NonNegative | None = None
    """Weight from `train.loss.switch_at` on; by default the same."""
    form: Literal["mse", "mae", "huber", "nll", "crps"] = "mse"
    """l(x): the square, the absolute value, or Huber's: the square up to `delta`, linear beyond. A shallow ensemble
    learns its spread with `crps`, continuous ranked probability score, or `nll`, negative log-likelihood."""
    delta: Positive = 0.01
    """Where the Huber form becomes linear, eV per atom."""


class ForcesTerm(BaseModel):
    """Error of the forces, the mean over atoms and components."""

    model_config = STRICT

    weight: NonNegative = 1.0
    """Weight of the mean of l(dF), dF in eV/Å."""
    final_weight: NonNegative | None = None
    """Weight from `train.loss.switch_at` on; by default the same."""
    form: Literal["mse", "mae", "huber"] = "mse"
    """l(x), as for the energy."""
    delta: Positive = 0.1
    """Where the Huber form becomes linear, eV/Å."""


class StressTerm(BaseModel):
    """Error of the stress times the volume per atom, the mean over the nine components, counted for every atom."""

    model_config = STRICT

    weight: NonNegative = 1.0
    """Weight of N l(V dS / N), V dS / N in eV; without effect on frames without a stress."""
    final_weight: NonNegative | None = None
    """Weight from `train.loss.switch_at` on; by default the same."""
    form: Literal["mse", "mae", "huber"] = "mse"
    """l(x), as for the energy."""
    delta: Positive = 0.01
    """Where the Huber form becomes linear, eV per atom."""


class LossConfig(BaseModel):
    """What is minimised: the mean over frames of the three weighted terms, each over the labels that a frame has."""

    model_config = STRICT

    energy: EnergyTerm = EnergyTerm()
    """Energies."""
    forces: ForcesTerm = ForcesTerm()
    """Forces."""
    stress: StressTerm = StressTerm()
    """Stresses."""
    switch_at: Share = 0.75
    """Share of all steps after which the final weights hold."""

    @model_validator(mode="after")
    def _consistent(self) -> "LossConfig":
        if not self.energy.weight + self.forces.weight + self.stress.weight > 0:
            raise ValueError("the weights of train.loss are all 0; at least one must be positive")
        return self


class RatesConfig(BaseModel):
    """Multiples of `train.learning_rate` for each group of parameters."""

    model_config = STRICT

    radial: NonNegative = 1.0
    """Radial coefficients."""
    readout: NonNegative = 1.0
    """Weights and biases of the network."""
    scale_shift: NonNegative = 1.0
    """Scale and shift per element."""
    repulsion: NonNegative = 0.3
    """Strengths of the repulsion."""


class OptimizerConfig(BaseModel):
    """Which optimiser of optax."""

    model_config = STRICT

    name: str = "adam"
    """Name in optax of a function that takes a learning rate, as adam, lamb, lion, nadam, radam, sgd."""
    arguments: dict[str, Flag | Whole | Number] = {}
    """Its other arguments, as in `{b2: 0.99}`."""


class ScheduleConfig(BaseModel):
    """The learning rate over the run: linear warm-up to the peak, then one of five forms."""

    model_config = STRICT

    form: Literal["cosine", "constant", "exponential", "cyclic", "plateau"] = "cosine"
    """`cosine` and `exponential` fall to `final` at the end; `cyclic` is `cycles` cosines, each from the peak;
    `plateau` multiplies by `factor` after `patience` epochs without a better validation loss."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up from zero."""
    final: Share | None = None
    """What is left of the peak at the end; by default 0, and 0.001 for `exponential`."""
    cycles: Count = 4
    """Cosines of the cyclic form."""
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """What a plateau multiplies the learning rate by."""
    patience: Count = 10
    """Epochs that make a plateau."""

    @model_validator(mode="after")
    def _consistent(self) -> "ScheduleConfig":
        if self.form == "exponential" and self.final == 0:
            raise ValueError("train.schedule.final is 0, which an exponential never reaches; give a small number")
        return self


class AveragingConfig(BaseModel):
    """The average of the parameters over steps, which is validated, saved and used."""

    model_config = STRICT

    form: Literal["ema", "swa", "none"] = "ema"
    """`ema`: exponential; `swa`: the mean of all steps from `start` on, the parameters themselves before; `none`."""
    decay: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the exponential average."""
    start: Share = 0.75
    """Share of all steps after which `swa` averages."""


class TrainConfig(BaseModel):
    """How to train."""

    model_config = STRICT

    epochs: Count = 300
    """Passes over the training frames."""
    batch_size: Count = 8
    """Frames per step; the last batch of an epoch may be smaller."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimiser."""
    learning_rate: Positive = 6e-3
    """Peak learning rate."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over the run."""
    rates: RatesConfig = RatesConfig()
    """Multiples of the learning rate per group of parameters; 0 freezes a group."""
    weight_decay: NonNegative = 0.0
    """Decay of the network's weight matrices per unit of learning rate (AdamW); all other parameters are exempt."""
    clip_norm: Positive | None = 1.0
    """Largest norm of the gradient over all parameters; null does not clip it."""
    clip_spikes: Annotated[Number, Field(gt=1)] | None = 3.0
    """Largest norm of the gradient in units of its mean over the last 100 steps or so; null does not clip it."""
    averaging: AveragingConfig = AveragingConfig()
    """The average of the parameters."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation loss; by default never."""
    device_memory_MB: Positive | None = None
    """Memory for frames on the device; of a larger set the training frames stay on the host and are sent in portions.
    By default half of what an accelerator has, and no limit on a CPU."""
    devices: Count = 1
    """Devices that share the frames of every step, all processes together (docs/training.md); may change at
    `--resume`."""
    checkpoint_seconds: NonNegative = 20.0
    """Seconds between two saved states, from which `--resume` continues."""


class StartConfig(BaseModel):
    """A trained potential to start from: fine-tuning."""

    model_config = STRICT

    model: str
    """Folder of the trained potential; its `model` section is taken over, new elements are added."""
    reset: tuple[Literal["radial", "readout", "scale_shift", "repulsion"], ...] = ()
    """Groups of parameters that start anew. `train.rates` at 0 freezes a group."""
