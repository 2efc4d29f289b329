"""What engines say of a job: their pages, and why it failed.

causes    the innermost cause in an engine's message; known symptoms and what to do about them
engine    which engine it is, its pages, what it says of a job, cancelling it
logs      where workers and engines write their logs
crash     the error of a job that no worker explained
"""
