"""Ollama's native API: chat over newline-delimited JSON."""
