"""What people and scripts read: tables, sentences and records of plans, models and runs.

In go plans, programs, trials and verdicts, in seconds and bytes; out come text for a terminal of any width, in
milliseconds and megabytes, and plain dictionaries for JSON, in seconds and bytes. The one difficulty: the same facts
must be in both.
"""
