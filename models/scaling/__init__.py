"""Scaling: how good models become with size, data and compute.

`laws` fits laws to points and says what follows from them; it imports `behavior` only.
"""
