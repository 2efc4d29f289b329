"""Run folders, checkpoints, logs and curves: what a training leaves on disk.

In come plain dicts (settings, progress, metrics) and tensors, and out they come again; nothing in a file is
code. Knows no setting by name, no task and no model, and imports nothing of `models`.
"""
