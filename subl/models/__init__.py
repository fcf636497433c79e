"""Models: loading, chat rendering, scoring, sampling, training, and the micro world."""
