"""Passes of the compiler: each a function from graph to graph that keeps every token."""
