"""Expression reenactment (paper, supplement "Expression Reenactment").

Reads a driver film (or a motion.npz) and, of the avatar, mesh/, gaussians/ and, for the source camera,
source/. Writes reenact/<driver>/: motion.npz (the motion given to the avatar, after transfer),
cameras.json, video.mp4, sheet.png.

The driver's motion is taken relative to the driver's own neutral: the driver's resting face gives the
avatar's resting face, whatever both people look like at rest. See `transfer.py` for each part.
"""
