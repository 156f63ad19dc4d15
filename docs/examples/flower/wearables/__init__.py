"""A Flower app on the wrist sensor records that ship with secagg."""
