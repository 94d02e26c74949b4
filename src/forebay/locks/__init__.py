"""Who does a job: one at a time, across processes. `base` is the port."""
