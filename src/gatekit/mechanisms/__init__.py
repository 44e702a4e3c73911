"""Pure machines that several floors need. They are told what time it is; they hold no clock, no lock and no loop."""
