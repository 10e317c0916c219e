"""The queue: runs that supervisors carry out, one worker process a device."""
