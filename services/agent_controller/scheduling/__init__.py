"""The loop that carries tasks on: read, fold, decide, append, see to the effects."""
