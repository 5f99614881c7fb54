"""A provider without a model: answers that look like one's, at the pace of one, with its faults."""
