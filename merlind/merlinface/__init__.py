"""A stand-in for the upstream, merlinface, which answers no more for most people: the scores it gives mean nothing."""
