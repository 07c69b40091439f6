"""Random operators and small graphs, through the engine in every layout, against one plain onnxruntime session.

``python -m tests.differential`` draws and runs many and prints the table; ``pytest`` runs a seeded few.
"""
