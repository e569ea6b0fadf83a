"""The `train` section: loss, optimiser, schedule, averaging, stopping."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from gmnn.config.types import STRICT, Count, Flag, NonNegative, Number, PathText, Positive, Share, Whole


class LossTerm(BaseModel):
    """One term of the loss."""

    model_config = STRICT

    weight: NonNegative = 1.0
    """Weight in the loss of a frame."""
    final_weight: NonNegative | None = None
    """Weight from `train.loss.switch_at` on; by default the same."""
    delta: Positive = 0.01
    """Where `huber` becomes linear, eV per atom."""


class EnergyTerm(LossTerm):
    """Error of the energy per atom, times the number of atoms."""

    weight: NonNegative = 3.0
    """Weight of N l(dE / N) in the loss of a frame of N atoms, dE / N in eV."""
    form: Literal["mse", "mae", "huber", "nll", "crps"] = "mse"
    """l(x): `mse`, square; `mae`, absolute value; `huber`, square up to `delta`, linear beyond. A shallow ensemble
    learns its spread with `crps`, continuous ranked probability score, or `nll`, negative log-likelihood."""


class ForcesTerm(LossTerm):
    """Error of the forces, averaged over atoms and components."""

    weight: NonNegative = 1.0
    """Weight of the mean of l(dF), dF in eV/Å."""
    form: Literal["mse", "mae", "huber"] = "mse"
    """l(x), as for the energy."""
    delta: Positive = 0.1
    """Where `huber` becomes linear, eV/Å."""


class StressTerm(LossTerm):
    """Error of stress times volume per atom, averaged over the nine components, times the number of atoms."""

    weight: NonNegative = 1.0
    """Weight of N l(V dS / N), V dS / N in eV; no effect on frames without a stress."""
    form: Literal["mse", "mae", "huber"] = "mse"
    """l(x), as for the energy."""


class LossConfig(BaseModel):
    """The loss: the mean over frames of the three weighted terms, each over the labels that a frame has."""

    model_config = STRICT

    energy: EnergyTerm = EnergyTerm()
    """Energies."""
    forces: ForcesTerm = ForcesTerm()
    """Forces."""
    stress: StressTerm = StressTerm()
    """Stresses."""
    switch_at: Share = 0.75
    """Share of all steps after which final weights hold."""

    @model_validator(mode="after")
    def _consistent(self) -> "LossConfig":
        if not self.energy.weight + self.forces.weight + self.stress.weight > 0:
            raise ValueError("the weights of train.loss are all 0; at least one must be positive")
        return self


class RatesConfig(BaseModel):
    """Multiples of `train.learning_rate` for each group of parameters."""

    model_config = STRICT

    radial: NonNegative = 1.0
    """Multiple of the learning rate for radial coefficients."""
    readout: NonNegative = 1.0
    """Multiple for weights and biases of the network."""
    scale_shift: NonNegative = 1.0
    """Multiple for scale and shift per element."""
    repulsion: NonNegative = 0.3
    """Multiple for strengths of the repulsion."""


class OptimizerConfig(BaseModel):
    """An optimiser of optax."""

    model_config = STRICT

    name: str = "adam"
    """Function of optax that takes a learning rate, as adam, lamb, lion, nadam, radam, sgd."""
    arguments: dict[str, Flag | Whole | Number] = {}
    """Its other arguments, as in `{b2: 0.99}`."""


class ScheduleConfig(BaseModel):
    """The learning rate over the run: linear warm-up to the peak, then one of five forms."""

    model_config = STRICT

    form: Literal["cosine", "constant", "exponential", "cyclic", "plateau"] = "cosine"
    """`cosine` and `exponential` fall to `final`; `cyclic` is `cycles` cosines, each from the peak; `plateau`
    multiplies by `factor` after `patience` epochs without a better validation loss; `constant` stays."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up from zero."""
    final: Share | None = None
    """Share of the peak left at the end; by default 0, `exponential`: 0.001."""
    cycles: Count = 4
    """Cosines of the cyclic form."""
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Factor of the learning rate at a plateau."""
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
    """`ema`: exponential; `swa`: mean of all steps from `start` on, the parameters themselves before; `none`."""
    decay: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    """Decay per step of `ema`."""
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
    """Decay of the network's weight matrices, of nothing else, per unit of learning rate (AdamW)."""
    clip_norm: Positive | None = 1.0
    """Largest gradient norm over all parameters; null: no clipping."""
    clip_spikes: Annotated[Number, Field(gt=1)] | None = 3.0
    """Largest gradient norm in units of its mean over about 100 steps; null: no clipping."""
    averaging: AveragingConfig = AveragingConfig()
    """The average of the parameters."""
    patience: Count | None = None
    """Epochs without a better validation loss before stopping; by default never."""
    device_memory_MB: Positive | None = None
    """Device memory for frames; training frames of a larger set stay on the host and are sent in portions. By default
    half of an accelerator's, unlimited on a CPU."""
    devices: Count = 1
    """Devices that share the frames of each step, over all processes (docs/training.md); may change at `--resume`."""
    checkpoint_seconds: NonNegative = 20.0
    """Seconds between saved states, from which `--resume` continues."""


class StartConfig(BaseModel):
    """A trained potential to start from: fine-tuning."""

    model_config = STRICT

    model: PathText
    """Folder of the trained potential; its `model` section is kept, new elements are added."""
    reset: tuple[Literal["radial", "readout", "scale_shift", "repulsion"], ...] = ()
    """Parameter groups (`radial`, `readout`, `scale_shift`, `repulsion`) that start anew. A `train.rates` of 0 freezes
    one."""
