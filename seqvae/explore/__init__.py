"""What an explorer of a latent space shows, as plain numbers and strings; no module here imports a user interface."""
