"""The equation: q(z|x), p(z) and p(x|z). Each module has one abstract class, its implementations and a catalogue."""
