"""What a run will take of memory, time, devices and disk, said before it begins."""
