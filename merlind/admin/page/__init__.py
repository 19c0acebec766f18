"""The page for operators, at the admin listener's ``/``: it works by links and forms alone, without a script."""
