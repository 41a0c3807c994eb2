"""Plans, loads, traces and the exact requests. Pure: nothing here opens a socket."""
