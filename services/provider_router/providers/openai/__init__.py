"""OpenAI's Chat Completions and Responses, and every base URL compatible with the former."""
