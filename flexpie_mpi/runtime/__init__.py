"""Carrying a program out: transports that move bytes, kernels that compute, and the executor that walks the steps.

In goes one rank's program; out come the request's outputs on the root and an event per step. The one difficulty:
nothing is decided and nothing is allocated while a request runs.
"""
