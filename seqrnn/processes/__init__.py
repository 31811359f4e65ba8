"""One run in several processes, which share out its streams: ``torchrun --nproc-per-node=2 -m seqrnn.train …``."""
