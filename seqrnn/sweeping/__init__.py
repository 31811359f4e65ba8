"""Sweeps: many runs from one command line, planned before the first starts, resumable, and compared at the end.

options     what sweep.* may hold
combining   overrides with many values -> a set of overrides for each job
composing   a set of overrides -> a config, and the name of the job
planning    all of that, with everything that is wrong reported at once
directory   the files of a sweep: configs of jobs, how they ended, the lock
job         carries out one job, in whichever process a launcher of hydra's starts it
watching    prints a line for each job that ends
launchers/  where jobs run: processes of this machine, Slurm, Ray, and any other launcher of hydra's
search/     searches: sweeps whose jobs Optuna chooses one after another
screen      how all of these print
comparison  conditions compared over seeds
tables      the comparison on the terminal, and as CSV, Markdown and LaTeX
listing     the jobs of a dry run
ending      what is drawn, written and printed when all jobs have ended
estimate    the time that jobs will take, from runs that have been measured
search_record  what a search has tried, for the report
sweeper     ties these together
"""
