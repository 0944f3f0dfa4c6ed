"""Rendering the avatar. Reads mesh/, gaussians/ and, for the self-check, source/.

Writes renders/<name>/: cameras.json, video.mp4, sheet.png, with --keep-frames (or a transparent
background) frames/000000.png. Weights: a refiner (avatar_refiner), where there is one and the avatar is a
learned one. The self-check (stage.json, "metrics"): driving the avatar with the source
photo's own parameters, seen by the source camera, must reproduce the photo; PSNR over the head.
"""
