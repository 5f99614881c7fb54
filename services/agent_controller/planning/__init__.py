"""How a goal becomes a plan. Pure; a model is asked by a subtask like any other."""
