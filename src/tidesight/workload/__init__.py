"""Who asks what and when, and what came of it: values and arithmetic, with time and randomness as arguments."""
