"""How step programs are run: call by call, compiled by torch, or recorded once and replayed."""
