"""Files that are elsewhere: web servers and object stores, fetched once into a cache on this machine."""
