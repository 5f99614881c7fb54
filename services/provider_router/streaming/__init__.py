"""The life of a stream: owned, fenced, stored first, controlled, ended exactly once."""
