"""The papers' protocols: which classes and videos a number is of, who is trained for it, and tables like theirs."""
