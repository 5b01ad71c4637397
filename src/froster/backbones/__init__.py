"""Vision-language models that students are built on: networks, tokenizer, preprocessing, score head."""
