"""Searches (sweep.search=optuna): sweeps whose jobs are chosen one after another, by the results of those before.

space     the keys that are searched, and the values that each may take
study     Optuna's study in the sweep's directory: it proposes values, and takes results
trial     what a job of a search reports while it trains, and when it is stopped early
planning  checks a space before the first trial, and composes the config of each trial
searcher  hands out trials until there are as many as were asked for, also after an interruption
"""
