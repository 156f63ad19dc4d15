"""Sans-I/O protocol machines. May import secagg; never fl, torch, a clock or a socket."""
