"""3D Gaussians: the record, the binding to the head mesh, PLY bytes, and one `render`."""
