"""llmcalc: memory and VRAM capacity planner and scaling-law calculator for large language models."""
