"""Preprocessing of behavior logs as a library: Arrow in, Arrow out."""
