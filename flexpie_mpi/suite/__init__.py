"""Suites: models x testbeds x planners x ranks x batch, measured cell by cell, and the rows that come of it."""
