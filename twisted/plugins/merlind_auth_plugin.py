"""Lets twisted.cred find merlind's checkers, by ``--auth htpasswd:FILE`` and the like."""

from merlind.web.auth.factories import HTPASSWD, PROXY, TOKENS

htpasswd = HTPASSWD
tokens = TOKENS
proxy = PROXY
