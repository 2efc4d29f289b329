"""Recommendations of a trained model: the top items of users of its data set, or of histories as they come.

`table.py` and `files.py` take histories in, `asked.py` puts the question behind each, `top.py` finds the top
items, `stream.py` goes through it all in batches, `output.py` writes them.
"""
