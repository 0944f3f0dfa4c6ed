"""Six canonical views of the head from one portrait (paper 3.2; view set of SOAP).

Reads source/. Writes views/: RGB, world-space normals and masks at azimuths 0, 45, 90, 180, 270, 315
degrees, orthographic, in the head frame (global and neck rotation removed, the photo's expression kept).
Today's generator is analytic (`--source lift`): the photo lifted onto the fitted head whose scalp has
been inflated to the hair silhouette; what the photo did not see is mirrored, continued or synthesised
from the photo's own hair. A learned generator is a residual on these views.
"""
