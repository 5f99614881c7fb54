"""The provider router: streams answers of models to per-stream subjects.

Layers, top down: `handlers` (doors) → `streaming` (the life of a stream) → `routing` (which model
of which provider) → `providers` (dialects). `main` is the composition root.
"""
