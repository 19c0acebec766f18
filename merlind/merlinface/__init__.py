"""A stand-in for the upstream, merlinface: it speaks the same API (docs/contract.md, "Upstream side").

The real one no longer responds for most people. The scores of the stand-in mean nothing.
"""
