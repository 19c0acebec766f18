"""The scoring API, merlinface, spoken from the other side (docs/contract.md, "Upstream side").

The one that this API was of is gone. Two scorers can be behind it: the face scorer, and a stand-in for trying merlind
out and for tests, whose scores mean nothing.
"""
