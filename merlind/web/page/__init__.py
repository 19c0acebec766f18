"""What people get to see: the page with the form, and small pages for browsers without JavaScript."""
