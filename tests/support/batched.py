"""A calculator that also serves whole batches, as those of machine-learned potentials do."""

from ase.calculators.singlepoint import SinglePointCalculator


class InBatches:
    """To be mixed into an ASE calculator: `batch_eval`, and the sizes of the batches it was given."""

    sizes = []

    @property
    def n_calls(self):
        return len(self.sizes)

    def batch_eval(self, frames):
        self.sizes = [*self.sizes, len(frames)]
        out = []
        for frame in frames:
            self.calculate(frame)
            copy = frame.copy()
            copy.calc = SinglePointCalculator(copy, **self.results)
            out.append(copy)
        return out
