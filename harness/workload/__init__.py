"""What is asked: plans, loads, traces and the exact requests. Pure: nothing here opens a socket."""
