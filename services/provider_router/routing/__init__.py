"""Which model of which provider answers a request, and what it costs."""
