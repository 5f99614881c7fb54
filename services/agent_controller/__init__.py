"""The agent controller: carries tasks to their end, whatever process dies on the way."""
