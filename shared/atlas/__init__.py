"""Atlas: LLM work over NATS."""
