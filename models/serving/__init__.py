"""Serving: trained models for use outside of training and evaluation.

In goes the folder of a run, and histories; out come the model and its scores of items. May import every room
but `training` and `experiments`.
"""
