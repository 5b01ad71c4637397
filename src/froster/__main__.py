"""`python -m froster`, for `torchrun` and `accelerate launch`."""

from froster_video import main

main()
