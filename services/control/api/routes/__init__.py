"""Routes, one module per noun. Each declares a permission; none contains `try`."""
