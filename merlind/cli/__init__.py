"""``merlinctl``: sends photos, follows tasks and runs a merlind from the command line (the extra ``merlind[cli]``)."""
