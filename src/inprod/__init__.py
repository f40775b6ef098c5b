"""inprod: test in production, safely."""
