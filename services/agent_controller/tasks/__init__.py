"""The pure core of tasks: values in, values out. Nothing here does I/O."""
