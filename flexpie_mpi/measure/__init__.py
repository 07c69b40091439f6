"""Measuring on the ranks of a job: links, exchanges and plans into traces, engines by turns, outputs against a session.

All ranks measure together, in the same order; whoever asks keeps the rows on the root. The one difficulty: a part
measured by itself is faster than the same part inside a plan, so everything is timed as a plan would run it.
"""
