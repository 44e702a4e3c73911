"""The words everything else is written in. No I/O, no clock, no framework: these modules import only each other."""
