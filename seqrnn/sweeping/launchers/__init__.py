"""Where the jobs of a sweep run.

local       processes of this machine, the default
worker      the main function of such a process
slurm       a Slurm cluster, through submitit
ray_cluster a Ray cluster
population  side by side in this process, with updates that are computed together
of_hydra    any other launcher of hydra

Each hands out jobs by name, waits until they have ended, and reports a job whose process was lost. Other launchers of
hydra can be chosen, too; the sweeper calls them as hydra does.
"""
