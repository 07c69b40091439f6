"""What people and scripts read: tables, sentences and records of plans, models and runs.

In go plans, programs, trials, verdicts and results, in seconds and bytes; out come text for a terminal of any width,
in milliseconds and megabytes, plain dictionaries for JSON, in seconds and bytes, and pages with pictures. The one
difficulty: the same facts must be in all.
"""
