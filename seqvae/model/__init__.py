"""The equation: q(z|x), p(z) and p(x|z). Each module has one abstract class and its implementations."""
