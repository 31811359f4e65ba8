"""Models: recurrent cells behind one protocol, and the network that puts a head on one."""
