"""What server and clients agree on: both apps import it."""

from fl.flower import Protection

PROTECTION = Protection(protocol="masking", clip=1.0, max_weight=1024)
