"""Budgets that all routers share, and the counters of what was used."""
