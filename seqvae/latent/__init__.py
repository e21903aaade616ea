"""What can be done with points of the latent space: paths, densities, directions."""
