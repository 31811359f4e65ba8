"""Populations: runs of one architecture whose updates are computed together, with the run as a leading axis.

members        runs side by side, each with its own loop and files; their updates meet in one place
joint          computes an update of many members at once
stack          weights and optimizer state of members as one tensor
recurrences    cells with a leading axis of members: torch's own recurrent layers by hand, any other by vmap
steps          steps of optimizers whose settings differ from member to member
compatibility  which configs can be members of one population, and which of none
"""
