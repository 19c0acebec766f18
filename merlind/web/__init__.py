"""The HTTP side: it knows the gateway, and nothing of SQL or of the upstream."""
