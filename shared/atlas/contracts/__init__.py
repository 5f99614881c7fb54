"""The wire contract of Atlas: pure pydantic models, no I/O.

Anyone may import from here; nothing here imports anything but pydantic and the standard library.
`docs/contract.md` is generated from these models, so their docstrings speak to users of every
language.
"""
