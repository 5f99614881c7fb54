"""Providers: one adapter per vendor's dialect, and a mock that behaves like one.

`registry.make_adapter` is the door for the rest of the router; `base` says what comes out of it.
Nothing here knows NATS, streams, retries or budgets.
"""
