"""Kernels: one folder each, a plain reference beside the fast form. The compiler picks, never the policy."""
