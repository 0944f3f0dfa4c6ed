"""Training the avatar network by self-reenactment (paper 3.4, supplement B). Reads samples; writes encoder,
decoder and refiner."""
