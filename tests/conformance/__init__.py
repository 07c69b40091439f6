"""The onnx wheel's own operator conformance suite, run through the engine over several ranks.

``python -m tests.conformance`` runs all of it and prints the table; ``pytest`` runs a seeded part.
"""
