"""Redis as the engine sees it: key names, scripts, the pipelined connection of the write path, topology."""
