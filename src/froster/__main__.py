"""`python -m froster`, for `torchrun` and `accelerate launch`."""

from froster.cli import main

main()
