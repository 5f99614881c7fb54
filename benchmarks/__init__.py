"""Measurements that are run by hand; `README.md` says which and how."""
