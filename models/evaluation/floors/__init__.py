"""Floors: what counting alone reaches, under the protocol of the models.

    names      which there are, and which make sense for a data set
    votes      how the events of a history vote for items
    kernels    compiled loops: votes of a history, and the ranks of targets among them
    counts     what is counted of other people's histories
    choice     decay and the like, chosen on validation
    floors     each floor evaluated

No table of users by items is ever made: a history votes for few items, and all others rank by popularity.
"""
