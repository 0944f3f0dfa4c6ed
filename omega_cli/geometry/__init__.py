"""Pure maths of cameras, rotations, meshes and UV maps. No files, no click, no rich."""
