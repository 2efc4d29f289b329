"""Whether an engine's workers can do a job: a tiny job that looks (`lrm doctor --runner`), and the same
within each job, before anything is read.

    facts         what a process finds out about itself
    findings      what is wrong with workers, beside this machine, with the remedy
    environment   what Beam's options say of how workers are started, looked at from here
    pool          a worker pool, asked for a worker without an engine
    watch         of a job: workers introduce themselves, within a time limit
    run           the tiny job
"""
