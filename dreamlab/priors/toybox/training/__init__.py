"""Training of the embedded prior: data, autoencoder, text encoder, diffusion, model card."""
