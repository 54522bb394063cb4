"""Where arrays live on many devices: meshes, logical rules, and what a leaf becomes under both. Framework-free."""
