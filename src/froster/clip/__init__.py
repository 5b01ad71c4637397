"""The original CLIP: network, tokenizer, weights in every format."""
