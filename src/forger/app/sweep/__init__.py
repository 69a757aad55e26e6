"""Many runs of one command: launched, watched, recorded, and gone on with."""
