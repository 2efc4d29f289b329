"""Layers: the parts that a block of a backbone is assembled from.

In and out: [tokens, dim]. What all blocks of a backbone share for one batch is in `context.SequenceContext`,
what a block is made of in `settings.BlockSettings`; `kinds` names the choices without torch.

May import `behavior`, and of `models`: attention, gpu. Never data or inputs: layers know tokens, not events.
"""
