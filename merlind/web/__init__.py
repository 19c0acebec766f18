"""The public side: HTTP in front of the tasks. It knows nothing of storage or of the upstream."""
