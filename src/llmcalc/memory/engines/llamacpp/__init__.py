"""llama.cpp: its graphs, the buffers they need, and where everything lies."""
