"""The papers' tables and figures, trained, tested and written next to the published ones: `reproduce`.

What is in a table is data, `data/published/*.yaml`, read by `froster.published`.
"""
